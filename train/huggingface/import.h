// `smoe import`: converts a Mixtral or JetMoE checkpoint of Hugging Face transformers to a run's
// folder.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "train/huggingface/model_family.h"

namespace smoe {

struct ImportOptions {
  std::string folder;  ///< with config.json and model.safetensors, or shards and their index
  std::string output;  ///< folder of the run to create; must not exist
};

struct ImportSummary {
  HuggingFaceConfig config;
  std::int64_t num_tensors = 0;
  std::int64_t weight_bytes = 0;                    ///< of the tensors in the files
  std::map<std::string, std::int64_t> redundant{};  ///< numbers of ignored tensors by what they are
  std::string tokenizer{};     ///< its summary; empty if it is not supported ...
  std::string no_tokenizer{};  ///< ... for this reason
};

/// Called periodically with the current stage and its bytes, done and in total. An exception of the
/// callback ends the work.
using WeightProgress =
    std::function<void(const char* stage, std::int64_t done, std::int64_t total)>;

/// Writes a run with the model at step 0: configuration, tokenizer if it is supported, and a
/// checkpoint of the weights in f32. Holds at most one parameter in memory.
/// Throws: UsageError, one line, for an unsupported config.json, or a tensor that is missing,
/// unknown, or has another shape or dtype (F32, BF16 and F16 are supported); SystemError. `output`
/// is unchanged then.
ImportSummary import_model(const ImportOptions& options, const WeightProgress& progress);

}  // namespace smoe
