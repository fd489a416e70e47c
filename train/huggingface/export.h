// `smoe export`: writes a run's model as a folder that Hugging Face transformers loads as Mixtral
// or JetMoE.
#pragma once
#include <string>
#include <vector>

#include "train/huggingface/import.h"

namespace smoe {

struct ExportOptions {
  std::string path;                              ///< a run, or one of its checkpoints
  std::string output;                            ///< folder to create; must not exist
  DType dtype = DType::f32;                      ///< of the stored weights: f32 or bf16
  std::int64_t max_shard_bytes = 5'000'000'000;  ///< larger models are split into shards
};

struct ExportSummary {
  HuggingFaceConfig config;
  std::int64_t step = 0;  ///< optimizer steps of the exported checkpoint
  std::int64_t num_tensors = 0;
  std::int64_t weight_bytes = 0;
  std::int64_t num_weight_files = 0;
  std::vector<std::string> tokenizer_files{};  ///< empty: the run has no tokenizer
};

/// Writes safetensors, config.json, generation_config.json and the tokenizer's files. Holds at most
/// one parameter in memory.
/// Throws: UsageError when no family can represent the model, there is no intact checkpoint, or
/// `output` exists; SystemError. `output` is unchanged then.
ExportSummary export_model(const ExportOptions& options, const WeightProgress& progress);

}  // namespace smoe
