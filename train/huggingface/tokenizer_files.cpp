#include "train/huggingface/tokenizer_files.h"

#include <nlohmann/json.hpp>

#include "core/base/check.h"
#include "core/system/file.h"
#include "core/system/folder.h"
#include "train/tokenizer/byte_level_tokenizer.h"
#include "train/tokenizer/sentencepiece_json.h"
#include "train/tokenizer/tokenizer_json.h"

namespace smoe {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr const char* kJsonName = "tokenizer.json";
constexpr const char* kModelName = "tokenizer.model";
constexpr const char* kConfigName = "tokenizer_config.json";

std::string byte_tokenizer_config(std::int64_t max_positions) {
  const OrderedJson json = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                            {"bos_token", kEndOfText},
                            {"eos_token", kEndOfText},
                            {"clean_up_tokenization_spaces", false},
                            {"split_special_tokens", true},  // text never becomes end of text
                            {"model_input_names", {"input_ids", "attention_mask"}},
                            {"model_max_length", max_positions}};
  return json.dump(2) + "\n";
}

// The settings with which LlamaTokenizer tokenizes as SentencePieceTokenizer does: without
// normalization, and with begin_of_text and the prefix first.
std::string sentencepiece_config(const SentencePieceTokenizer& tokenizer,
                                 std::int64_t max_positions) {
  const std::string begin = tokenizer.piece_of(tokenizer.begin_of_text());
  const std::string end = tokenizer.piece_of(tokenizer.end_of_text());
  const OrderedJson json = {{"tokenizer_class", "LlamaTokenizer"},
                            {"legacy", false},
                            {"add_prefix_space", !tokenizer.document_prefix().empty()},
                            {"add_bos_token", true},
                            {"add_eos_token", false},
                            {"bos_token", begin},
                            {"eos_token", end},
                            {"unk_token", tokenizer.piece_of(tokenizer.unknown())},
                            {"clean_up_tokenization_spaces", false},
                            {"split_special_tokens", true},
                            {"model_max_length", max_positions}};
  return json.dump(2) + "\n";
}

std::string byte_level_config(const ByteLevelTokenizer& tokenizer, std::int64_t max_positions) {
  const auto name_of = [&](std::int32_t id) {
    return tokenizer.model().pieces[static_cast<std::size_t>(id)];
  };
  const OrderedJson json = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                            {"bos_token", name_of(tokenizer.begin_of_text())},
                            {"eos_token", name_of(tokenizer.end_of_text())},
                            {"clean_up_tokenization_spaces", false},
                            {"split_special_tokens", true},
                            {"model_input_names", {"input_ids", "attention_mask"}},
                            {"model_max_length", max_positions}};
  return json.dump(2) + "\n";
}

}  // namespace

TokenizerFound read_tokenizer_files(const std::string& folder) {
  TokenizerFound found{nullptr, "the folder has none"};
  for (const char* name : {kModelName, kJsonName}) {
    const std::string path = folder + "/" + name;
    if (kind_of(path) != PathKind::file) continue;
    try {
      return {load_tokenizer(path)};
    } catch (const UsageError& error) {
      found.reason = error.what();
    }
  }
  return found;
}

std::vector<std::string> write_tokenizer_files(const Tokenizer& tokenizer,
                                               const std::string& folder,
                                               std::int64_t max_positions) {
  const auto write = [&](const char* name, const std::string& bytes) {
    write_file_atomically(folder + "/" + name, bytes);
    return std::string(name);
  };
  if (dynamic_cast<const ByteTokenizer*>(&tokenizer))
    return {write(kJsonName, byte_tokenizer_json()),
            write(kConfigName, byte_tokenizer_config(max_positions))};
  if (const auto* byte_level = dynamic_cast<const ByteLevelTokenizer*>(&tokenizer))
    return {write(kJsonName, byte_level_json(byte_level->model())),
            write(kConfigName, byte_level_config(*byte_level, max_positions))};
  if (const auto* pieces = dynamic_cast<const SentencePieceTokenizer*>(&tokenizer)) {
    std::vector<std::string> names = {
        write(kModelName, pieces->file_bytes()),
        write(kConfigName, sentencepiece_config(*pieces, max_positions))};
    // Without it transformers needs the package sentencepiece.
    if (pieces->is_bpe()) names.push_back(write(kJsonName, sentencepiece_json(*pieces)));
    return names;
  }
  throw InternalError(concat("export: no files of the tokenizer ", tokenizer.summary()));
}

}  // namespace smoe
