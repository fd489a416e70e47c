// Converts config.json of a Hugging Face Mixtral model to a ModelConfig and back. Tensor names need
// no conversion: parameter parts have the same names.
#pragma once
#include <nlohmann/json.hpp>

#include "train/huggingface/config_reader.h"
#include "train/huggingface/model_family.h"

namespace smoe {

/// transformers' values of the keys that a file may lack.
HuggingFaceConfig mixtral_defaults();

/// Reads the keys that other families lack, or read otherwise; `config` has those of all families.
/// Throws: as ConfigReader.
void read_mixtral_keys(ConfigReader& reader, HuggingFaceConfig& config);

/// Throws: UsageError naming the first model key that Mixtral, unlike other families, cannot
/// represent.
void check_is_mixtral(const ModelConfig& model);

/// The keys of config.json that other families lack, or write otherwise.
nlohmann::ordered_json mixtral_keys(const ModelConfig& model);

}  // namespace smoe
