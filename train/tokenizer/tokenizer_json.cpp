#include "train/tokenizer/tokenizer_json.h"

#include <nlohmann/json.hpp>

#include "core/base/check.h"
#include "core/system/file.h"
#include "core/system/folder.h"
#include "core/system/json_reader.h"
#include "core/system/text.h"
#include "train/tokenizer/byte_alphabet.h"
#include "train/tokenizer/byte_level_tokenizer.h"
#include "train/tokenizer/sentencepiece_json.h"
#include "train/tokenizer/tokenizer_json_fields.h"

namespace smoe {
namespace {

using Json = nlohmann::json;

// The model of ByteTokenizer.
ByteLevelModel byte_model() {
  const std::int32_t end = ByteTokenizer().end_of_text();
  ByteLevelModel model{.pieces = {byte_characters().begin(), byte_characters().end()},
                       .merges = {},
                       .added = {{.id = end, .content = kEndOfText, .is_special = true}},
                       .patterns = {},
                       .begin_of_text = end,
                       .end_of_text = end,
                       .begins_prompts = true};
  model.pieces.push_back(kEndOfText);
  return model;
}

std::unique_ptr<Tokenizer> tokenizer_of(ByteLevelModel model, const std::string& path) {
  const bool is_bytes = model.pieces == byte_model().pieces && model.merges.empty() &&
                        model.patterns.empty() && model.added == byte_model().added;
  if (is_bytes && !model.composes) return std::make_unique<ByteTokenizer>();
  return std::make_unique<ByteLevelTokenizer>(std::move(model), path);
}

std::unique_ptr<Tokenizer> read_json(const Json& json, const std::string& path,
                                     const std::string& end_token) {
  if (json == Json::parse(ByteTokenizer().file_bytes())) return std::make_unique<ByteTokenizer>();
  if (is_byte_level_file(json)) return tokenizer_of(parse_byte_level_file(json, path), path);
  if (is_byte_level(json)) return tokenizer_of(parse_byte_level(json, path, end_token), path);
  if (is_sentencepiece_json(json))
    return std::make_unique<SentencePieceTokenizer>(sentencepiece_model_of(json, path, end_token),
                                                    path);
  throw UsageError(concat(
      path,
      ": must be a tokenizer.json of byte-level BPE, or of BPE with byte fallback that marks ",
      "spaces as SentencePiece does; got the model ", printable(type_of(json_field(json, "model"))),
      ", the normalizer ", printable(type_of(json_field(json, "normalizer"))),
      " and the pre_tokenizer ", printable(type_of(json_field(json, "pre_tokenizer")))));
}

}  // namespace

bool is_tokenizer_json(std::string_view file) {
  const std::size_t first = file.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && file[first] == '{';
}

std::unique_ptr<Tokenizer> read_tokenizer_json(const std::string& text, const std::string& path,
                                               const std::string& end_token) {
  const Json json = parse_json(text, path, kMaxTokenizerDepth);
  try {
    return read_json(json, path, end_token);
  } catch (const Json::exception&) {  // a value of another type
    throw UsageError(concat(path, ": must be a file of Hugging Face's tokenizers"));
  }
}

std::string end_token_name(const std::string& folder) {
  const std::string path = folder + "/tokenizer_config.json";
  if (kind_of(path) != PathKind::file) return "";
  const Json json = parse_json(read_file(path, kMaxTokenizerBytes), path, kMaxTokenizerDepth);
  const Json& token = json_field(json, "eos_token");
  const Json& name = token.is_object() ? json_field(token, "content") : token;
  return name.is_string() ? name.get<std::string>() : "";
}

std::string byte_tokenizer_json() {
  return byte_level_json(byte_model());
}

}  // namespace smoe
