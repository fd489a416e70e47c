// Loading a trained model from a run's folder, without optimizer state or dataset.
#pragma once
#include <memory>

#include "train/checkpoint/checkpoint.h"
#include "train/data/open_token_set.h"
#include "train/tokenizer/tokenizer.h"
#include "train/trainable_model.h"

namespace smoe {

/// A trained model on disk.
struct StoredModel {
  Config config;
  std::unique_ptr<Tokenizer> tokenizer;  ///< null if the run has none, as some imported ones
  TokenSpace token_space;                ///< what its token sets must match
  Checkpoint checkpoint;
};

/// Opens the model at `path`: a run's folder, for its newest intact checkpoint, or the folder of
/// one of its checkpoints. Throws: UsageError if there is none, it is damaged, or config.yaml
/// or the tokenizer is not the one that it was trained with; SystemError.
StoredModel open_model(const std::string& path);

/// The same for the base at `path`, which train.init_from names. Throws: also UsageError saying so.
StoredModel open_base(const std::string& path);

struct LoadedModel {
  Config config;
  std::unique_ptr<Tokenizer> tokenizer;  ///< null if the run has none, as some imported ones
  TokenSpace token_space;                ///< what its token sets must match
  std::unique_ptr<TrainableModel> trainable;
  std::int64_t step = 0;  ///< optimizer steps that it was trained for

  Transformer& model() const { return trainable->transformer; }
  ParameterStore& store() const { return trainable->store; }
};

/// As open_model, with the weights on the current device; `trains` as in ParameterStore::Options.
/// The base, if the model has one, is loaded from where train.init_from says.
/// Throws: also UsageError if the base is missing or another one.
LoadedModel load_model(const std::string& path, bool trains = false);
/// The same for a model that is open.
LoadedModel load_model(StoredModel stored, bool trains = false);

}  // namespace smoe
