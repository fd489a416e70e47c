// A trained model from a run's folder, ready to use: no optimizer state, no token set.
#pragma once
#include <memory>

#include "autograd/parameter_store.h"
#include "layers/transformer.h"
#include "train/checkpoint/checkpoint.h"
#include "train/config/config.h"
#include "train/data/tokenizer.h"

namespace smoe {

/// A trained model as it lies on disk.
struct StoredModel {
  Config config;
  std::unique_ptr<Tokenizer> tokenizer;  ///< null: the run has none, an imported one may not
  Checkpoint checkpoint;
};

/// The model of `path`: a run's folder, for its newest intact checkpoint, or the folder of one of
/// its checkpoints. Throws: UsageError when there is none or it is damaged; SystemError.
StoredModel open_model(const std::string& path);

struct LoadedModel {
  Config config;
  std::unique_ptr<Tokenizer> tokenizer;  ///< null: the run has none, an imported one may not
  std::unique_ptr<Transformer> model;
  std::unique_ptr<ParameterStore> store;  ///< the model's weights
  std::int64_t step = 0;                  ///< optimizer steps they were trained for
};

/// As open_model, with the weights on the current device; `trains` as in ParameterStore::Options.
LoadedModel load_model(const std::string& path, bool trains = false);

}  // namespace smoe
