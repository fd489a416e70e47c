// Converts config.json of a Hugging Face Mixtral model to a ModelConfig and back. Tensor names need
// no conversion: parameter parts have the same names.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "layers/model_config.h"

namespace smoe {

/// The supported contents of a Mixtral model's config.json.
struct MixtralConfig {
  ModelConfig model;
  std::int64_t max_positions = 0;           ///< context length in tokens
  std::optional<std::int32_t> begin_token;  ///< before each document
  std::optional<std::int32_t> end_token;    ///< ends generated text
  std::vector<std::string> unknown_keys{};  ///< ignored keys that Mixtral does not define
};

/// Parses config.json as written by transformers 4 or 5; `path` stands for the file in messages. A
/// missing key gets transformers' default unless it determines a shape.
/// Throws: UsageError naming the key, its value and the supported values.
MixtralConfig parse_mixtral_config(const std::string& text, const std::string& path);

/// Throws: UsageError naming the first model key that Mixtral cannot represent.
void check_is_mixtral(const ModelConfig& model);

/// The text of config.json for weights stored as `dtype`, valid for transformers 4 and 5.
/// Throws: as check_is_mixtral.
std::string mixtral_config_text(const MixtralConfig& config, DType dtype);

}  // namespace smoe
