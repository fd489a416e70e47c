// `smoe export`: a run's model to a folder that Hugging Face's transformers loads as Mixtral.
#pragma once
#include <string>
#include <vector>

#include "train/huggingface/import.h"

namespace smoe {

struct ExportOptions {
  std::string path;                              ///< a run, or a checkpoint in one
  std::string output;                            ///< folder to make; must not exist
  DType dtype = DType::f32;                      ///< of the weights in the files: f32 or bf16
  std::int64_t max_shard_bytes = 5'000'000'000;  ///< more than this is split
};

struct ExportSummary {
  MixtralConfig config;
  std::int64_t step = 0;  ///< optimizer steps the weights were trained for
  std::int64_t num_tensors = 0;
  std::int64_t weight_bytes = 0;
  std::int64_t num_weight_files = 0;
  std::vector<std::string> tokenizer_files{};  ///< empty: the run has no tokenizer
};

/// Writes safetensors, config.json, generation_config.json and the tokenizer's files. Holds the
/// largest parameter in memory at most.
/// Throws: UsageError when the model is no Mixtral, or there is no intact checkpoint, or something
/// at `output`; SystemError. `output` is then as it was.
ExportSummary export_mixtral(const ExportOptions& options, const WeightProgress& progress);

}  // namespace smoe
