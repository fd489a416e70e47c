// Converts config.json of a Hugging Face JetMoE model (arXiv:2404.07413) to a ModelConfig and back,
// and the names of its tensors. JetMoE has one number of experts and one top-k for attention and
// MLP, as many query heads per attention expert as key heads, and a bias after either mixture.
#pragma once
#include <nlohmann/json.hpp>

#include "train/huggingface/config_reader.h"
#include "train/huggingface/model_family.h"

namespace smoe {

/// transformers' values of the keys that a file may lack.
HuggingFaceConfig jetmoe_defaults();

/// Reads the keys that other families lack, or read otherwise; `config` has those of all families.
/// Throws: as ConfigReader.
void read_jetmoe_keys(ConfigReader& reader, HuggingFaceConfig& config);

/// Throws: UsageError naming the first model key that JetMoE, unlike other families, cannot
/// represent.
void check_is_jetmoe(const ModelConfig& model);

/// The keys of config.json that other families lack, or write otherwise.
nlohmann::ordered_json jetmoe_keys(const ModelConfig& model);

/// The biases that JetMoE has and the model lacks.
std::vector<ParameterPart> jetmoe_zero_tensors(const ModelConfig& model);

/// The tensor in the files that holds the elements of a parameter, in its order.
ParameterPart jetmoe_tensor(const Parameter& parameter);

}  // namespace smoe
