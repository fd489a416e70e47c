// TrainableModel: a model together with the store of its parameters.
#pragma once
#include <functional>
#include <vector>

#include "autograd/parameter_store.h"
#include "layers/transformer.h"
#include "train/config/config.h"

namespace smoe {

struct TrainableModel {
  /// The model of `config.model` with initial weights on the current device, computing in
  /// train.precision. `trains` and `own` as in ParameterStore::Options.
  explicit TrainableModel(const Config& config, bool trains = true,
                          std::function<std::vector<Range>(std::int64_t numel)> own = nullptr);

  /// Visits this rank's elements of the master weights, and the routers' selection biases, of what
  /// is trained.
  void visit_state(StateVisitor& visitor);
  /// Visits the base: the same of what is not trained, whole and rounded as ops read it.
  void visit_base(StateVisitor& visitor);
  /// Whether there is a base.
  bool has_base() const { return !store.frozen().empty(); }

  Transformer transformer;
  ParameterStore store;
};

}  // namespace smoe
