// Mixtral models of Hugging Face's transformers: what config.json says as our ModelConfig, and the
// other way round. The names of tensors need no translation: our parameters' parts bear them.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "layers/model_config.h"

namespace smoe {

/// What a Mixtral model's config.json says that we keep.
struct MixtralConfig {
  ModelConfig model;
  std::int64_t max_positions = 0;           ///< tokens of context it was made for
  std::optional<std::int32_t> begin_token;  ///< that stands in front of each document
  std::optional<std::int32_t> end_token;    ///< that ends generated text
  std::vector<std::string> unknown_keys{};  ///< that are no keys of Mixtral, and were not read
};

/// Reads the text of config.json, as transformers 4 or 5 writes it; `path` stands for the file in
/// messages. A missing key has transformers' default where it does not change a shape.
/// Throws: UsageError naming the key, its value and what is supported.
MixtralConfig parse_mixtral_config(const std::string& text, const std::string& path);

/// Throws: UsageError naming the key of ours that Mixtral has no counterpart for.
void check_is_mixtral(const ModelConfig& model);

/// The text of config.json for weights stored as `dtype`, in words that transformers 4 and 5 both
/// read. Throws: as check_is_mixtral.
std::string mixtral_config_text(const MixtralConfig& config, DType dtype);

}  // namespace smoe
