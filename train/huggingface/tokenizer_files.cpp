#include "train/huggingface/tokenizer_files.h"

#include <nlohmann/json.hpp>

#include "core/base/check.h"
#include "core/system/file.h"
#include "core/system/folder.h"
#include "train/data/sentencepiece_tokenizer.h"

namespace smoe {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr const char* kJsonName = "tokenizer.json";
constexpr const char* kModelName = "tokenizer.model";
constexpr const char* kConfigName = "tokenizer_config.json";
constexpr const char* kEndOfText = "<|endoftext|>";

// UTF-8 of a code point below U+0800.
std::string utf8(int code_point) {
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xC0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3F))};
}

// The character that represents a byte in byte-level vocabularies: the byte itself if it is
// printable in Latin-1, else the next unused one from U+0100 (as in GPT-2's vocabulary).
std::vector<std::string> byte_characters() {
  std::vector<std::string> characters;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool is_printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    characters.push_back(utf8(is_printable ? byte : next++));
  }
  return characters;
}

// One token per byte: a byte-level BPE without merges.
std::string byte_tokenizer_text(const ByteTokenizer& tokenizer) {
  OrderedJson vocab = OrderedJson::object();
  std::int32_t id = 0;
  for (const std::string& character : byte_characters()) vocab[character] = id++;
  const OrderedJson end = {{"id", tokenizer.end_of_text()},
                           {"content", kEndOfText},
                           {"single_word", false},
                           {"lstrip", false},
                           {"rstrip", false},
                           {"normalized", false},
                           {"special", true}};
  const OrderedJson byte_level = {{"type", "ByteLevel"},
                                  {"add_prefix_space", false},
                                  {"trim_offsets", false},
                                  {"use_regex", false}};
  const auto special = [](const char* name) {
    return OrderedJson{{"SpecialToken", {{"id", name}, {"type_id", 0}}}};
  };
  const auto sequence = [](const char* name, int type) {
    return OrderedJson{{"Sequence", {{"id", name}, {"type_id", type}}}};
  };
  const OrderedJson specials = {
      {kEndOfText,
       {{"id", kEndOfText}, {"ids", {tokenizer.end_of_text()}}, {"tokens", {kEndOfText}}}}};
  const OrderedJson json = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", OrderedJson::array({end})},
      {"normalizer", nullptr},
      {"pre_tokenizer", byte_level},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single", OrderedJson::array({special(kEndOfText), sequence("A", 0)})},
        {"pair", OrderedJson::array({special(kEndOfText), sequence("A", 0), sequence("B", 1)})},
        {"special_tokens", specials}}},
      {"decoder", byte_level},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"ignore_merges", false},
        {"vocab", vocab},
        {"merges", OrderedJson::array()}}},
  };
  return json.dump(2) + "\n";
}

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
// normalization or prefix, and with end_of_text first.
std::string sentencepiece_config(const SentencePieceTokenizer& tokenizer,
                                 std::int64_t max_positions) {
  const std::string end = tokenizer.piece_of(tokenizer.end_of_text());
  const OrderedJson json = {{"tokenizer_class", "LlamaTokenizer"},
                            {"legacy", false},
                            {"add_prefix_space", false},
                            {"add_bos_token", true},
                            {"add_eos_token", false},
                            {"bos_token", end},
                            {"eos_token", end},
                            {"unk_token", tokenizer.piece_of(tokenizer.unknown())},
                            {"clean_up_tokenization_spaces", false},
                            {"split_special_tokens", true},
                            {"model_max_length", max_positions}};
  return json.dump(2) + "\n";
}

}  // namespace

TokenizerFound read_tokenizer_files(const std::string& folder) {
  const std::string model_path = folder + "/" + kModelName, json_path = folder + "/" + kJsonName;
  if (kind_of(model_path) == PathKind::file) {
    try {
      return {load_tokenizer(model_path)};
    } catch (const UsageError& error) {
      return {nullptr, error.what()};
    }
  }
  if (kind_of(json_path) != PathKind::file) return {nullptr, "the folder has none"};
  const ByteTokenizer bytes;
  if (read_file(json_path, kMaxTokenizerBytes) == byte_tokenizer_text(bytes))
    return {std::make_unique<ByteTokenizer>()};
  return {nullptr, "the folder has no SentencePiece file tokenizer.model"};
}

std::vector<std::string> write_tokenizer_files(const Tokenizer& tokenizer,
                                               const std::string& folder,
                                               std::int64_t max_positions) {
  const auto write = [&](const char* name, const std::string& bytes) {
    write_file_atomically(folder + "/" + name, bytes);
    return std::string(name);
  };
  if (const auto* bytes = dynamic_cast<const ByteTokenizer*>(&tokenizer))
    return {write(kJsonName, byte_tokenizer_text(*bytes)),
            write(kConfigName, byte_tokenizer_config(max_positions))};
  if (const auto* pieces = dynamic_cast<const SentencePieceTokenizer*>(&tokenizer))
    return {write(kModelName, pieces->file_bytes()),
            write(kConfigName, sentencepiece_config(*pieces, max_positions))};
  throw UsageError(tokenizer.summary() +
                   ": must be a byte or SentencePiece tokenizer to be exported");
}

}  // namespace smoe
