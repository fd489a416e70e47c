// `smoe import`: a Mixtral checkpoint of Hugging Face's transformers to a run's folder.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "train/huggingface/mixtral.h"

namespace smoe {

struct ImportOptions {
  std::string folder;  ///< with config.json and model.safetensors, or shards and their index
  std::string output;  ///< folder of the run to make; must not exist
};

struct ImportSummary {
  MixtralConfig config;
  std::int64_t num_tensors = 0;
  std::int64_t weight_bytes = 0;  ///< of the tensors in the files
  std::string tokenizer{};        ///< what it is; empty: none that we can be ...
  std::string no_tokenizer{};     ///< ... for this reason
};

/// Is told now and then how far the work is: what is done, bytes done and in all. What it throws
/// ends the work.
using WeightProgress = std::function<void(const char* part, std::int64_t done, std::int64_t total)>;

/// Writes a run that holds the model at step 0: configuration, tokenizer where there is one that we
/// can be, and a checkpoint of the weights in f32. Holds the largest parameter in memory at most.
/// Throws: UsageError, one line, for a config.json that asks for what we are not, a tensor that is
/// missing, not of the model, or of another shape or dtype (F32, BF16 and F16 are read);
/// SystemError. `output` is then as it was.
ImportSummary import_mixtral(const ImportOptions& options, const WeightProgress& progress);

}  // namespace smoe
