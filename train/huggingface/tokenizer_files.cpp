#include "train/huggingface/tokenizer_files.h"

#include <nlohmann/json.hpp>

#include "core/base/check.h"
#include "core/system/file.h"
#include "core/system/folder.h"
#include "core/system/json_reader.h"
#include "train/huggingface/tokenizer_json.h"

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

// The name of the token that ends text, in tokenizer_config.json; empty if there is none.
std::string end_token_name(const std::string& folder) {
  const std::string path = folder + "/" + kConfigName;
  if (kind_of(path) != PathKind::file) return "";
  const nlohmann::json json =
      parse_json(read_file(path, kMaxTokenizerBytes), path, kMaxTokenizerDepth);
  if (!json.is_object() || !json.contains("eos_token")) return "";
  const nlohmann::json& token = json["eos_token"];
  if (token.is_string()) return token.get<std::string>();
  const auto content = token.is_object() ? token.find("content") : token.end();
  return content != token.end() && content->is_string() ? content->get<std::string>() : "";
}

}  // namespace

TokenizerFound read_tokenizer_files(const std::string& folder) {
  const std::string model_path = folder + "/" + kModelName, json_path = folder + "/" + kJsonName;
  try {
    if (kind_of(model_path) == PathKind::file) return {load_tokenizer(model_path)};
    if (kind_of(json_path) != PathKind::file) return {nullptr, "the folder has none"};
    auto [tokenizer, reason] = read_tokenizer_json(read_file(json_path, kMaxTokenizerBytes),
                                                   json_path, end_token_name(folder));
    return {std::move(tokenizer), std::move(reason)};
  } catch (const UsageError& error) {
    return {nullptr, error.what()};
  }
}

std::vector<std::string> write_tokenizer_files(const Tokenizer& tokenizer,
                                               const std::string& folder,
                                               std::int64_t max_positions) {
  const auto write = [&](const char* name, const std::string& bytes) {
    write_file_atomically(folder + "/" + name, bytes);
    return std::string(name);
  };
  if (const auto* bytes = dynamic_cast<const ByteTokenizer*>(&tokenizer))
    return {write(kJsonName, byte_tokenizer_json(*bytes)),
            write(kConfigName, byte_tokenizer_config(max_positions))};
  if (const auto* pieces = dynamic_cast<const SentencePieceTokenizer*>(&tokenizer)) {
    std::vector<std::string> names = {
        write(kModelName, pieces->file_bytes()),
        write(kConfigName, sentencepiece_config(*pieces, max_positions))};
    // Without it transformers needs the package sentencepiece.
    if (pieces->is_bpe()) names.push_back(write(kJsonName, sentencepiece_json(*pieces)));
    return names;
  }
  throw UsageError(tokenizer.summary() +
                   ": must be a byte or SentencePiece tokenizer to be exported");
}

}  // namespace smoe
