// What a byte-level BPE tokenizer consists of, and its form as tokenizer.json of Hugging Face's
// tokenizers library (GPT-2, Llama 3, Qwen).
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "train/tokenizer/added_tokens.h"

namespace smoe {

struct ByteLevelModel {
  std::vector<std::string> pieces;  ///< [vocab_size], as in the file; empty for ids without a token
  std::vector<std::pair<std::int32_t, std::int32_t>> merges;  ///< ids of the pieces that are joined
  std::vector<AddedToken> added;                              ///< by ascending id
  std::vector<std::string> patterns;                          ///< of TextSplitter
  bool composes = false;  ///< text is normalized to Unicode's NFC
  bool ignores_merges =
      false;  ///< a piece of text that is in the vocabulary is one token, whatever its merges
  std::int32_t begin_of_text = 0, end_of_text = 0;
  bool begins_prompts =
      false;  ///< begin_of_text stands before each text, not only between documents
};

/// Whether `json`, a tokenizer.json, splits text into bytes.
bool is_byte_level(const nlohmann::json& json);

/// The model of a tokenizer.json for which is_byte_level holds. `end_token`: the name of the token
/// that ends text; empty: one of the usual names.
/// Throws: UsageError, naming `path` and the setting, for what is not known; nlohmann's exceptions
/// for a value of another type.
ByteLevelModel parse_byte_level(const nlohmann::json& json, const std::string& path,
                                const std::string& end_token);

/// The model as tokenizer.json: one text for all files of equal meaning.
std::string byte_level_json(const ByteLevelModel& model);

/// The file that token sets and runs keep: byte_level_json with the begin and end tokens.
std::string byte_level_file(const ByteLevelModel& model);

/// Whether `json` is such a file.
bool is_byte_level_file(const nlohmann::json& json);

/// The model of such a file. Throws: as parse_byte_level.
ByteLevelModel parse_byte_level_file(const nlohmann::json& json, const std::string& path);

}  // namespace smoe
