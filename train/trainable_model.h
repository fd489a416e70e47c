// TrainableModel: a model together with the store of its parameters.
#pragma once
#include "autograd/parameter_store.h"
#include "layers/transformer.h"
#include "train/config/config.h"

namespace smoe {

struct TrainableModel {
  /// The model of `config.model` with initial weights on the current device, computing in
  /// train.precision. `trains` as in ParameterStore::Options.
  explicit TrainableModel(const Config& config, bool trains = true);

  /// Visits the weights and the routers' selection biases.
  void visit_state(StateVisitor& visitor);

  Transformer transformer;
  ParameterStore store;
};

}  // namespace smoe
