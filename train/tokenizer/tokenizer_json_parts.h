// Writes tokenizer.json of Hugging Face's tokenizers library from its parts.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace smoe {

/// An entry of added_tokens.
nlohmann::ordered_json added_token_json(std::int32_t id, const std::string& content,
                                        bool is_special, bool is_normalized);

/// The post-processor that puts the token `name` before each text.
nlohmann::ordered_json begins_with(const std::string& name, std::int32_t id);

/// A tokenizer whose model is BPE; each part as JSON.
struct TokenizerJsonParts {
  nlohmann::ordered_json added_tokens, normalizer, pre_tokenizer, post_processor, decoder;
  bool ignores_merges = false;
  std::string unknown{};  ///< the piece for unknown characters; empty: none
  bool has_byte_fallback = false;
  std::vector<std::string> pieces;                            ///< by id; empty: no such id
  std::vector<std::pair<std::int32_t, std::int32_t>> merges;  ///< by descending priority
};

/// The text of tokenizer.json. Time is linear in its size.
std::string tokenizer_json_text(const TokenizerJsonParts& parts);

}  // namespace smoe
