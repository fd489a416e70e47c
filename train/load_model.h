// A trained model from a run's folder, ready to use: no optimizer state, no token set.
#pragma once
#include <memory>

#include "autograd/parameter_store.h"
#include "layers/transformer.h"
#include "train/config/config.h"
#include "train/data/tokenizer.h"

namespace smoe {

struct LoadedModel {
  Config config;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Transformer> model;
  std::unique_ptr<ParameterStore> store;  ///< the model's weights
  std::int64_t step = 0;                  ///< optimizer steps they were trained for
};

/// The model of `path`: a run's folder, for its newest intact checkpoint, or the folder of one of
/// its checkpoints. Throws: UsageError when there is none or it is damaged; SystemError.
LoadedModel load_model(const std::string& path);

}  // namespace smoe
