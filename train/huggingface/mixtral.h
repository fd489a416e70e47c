// Converts config.json of a Hugging Face Mixtral model to a ModelConfig and back. Tensor names need
// no conversion: parameter parts have the same names.
#pragma once
#include <nlohmann/json.hpp>

#include "train/huggingface/config_reader.h"
#include "train/huggingface/model_family.h"

namespace smoe {

/// All but the tokens. Throws: as ConfigReader.
HuggingFaceConfig read_mixtral_config(ConfigReader& reader);

/// Throws: UsageError naming the first model key that Mixtral, unlike other families, cannot
/// represent.
void check_is_mixtral(const ModelConfig& model);

/// The keys of config.json that describe the model.
nlohmann::ordered_json mixtral_config(const HuggingFaceConfig& config);

}  // namespace smoe
