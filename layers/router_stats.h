// RouterStats: totals of every layer's routing over the micro-batches of a step.
#pragma once
#include "autograd/ops.h"
#include "layers/model_config.h"

namespace smoe {

class RouterStats {
 public:
  /// Accumulates in `totals`, f64 [num_layers, E + 2], zero at first: per layer the rows of each
  /// expert, then the sums of the balance and z losses.
  explicit RouterStats(Tensor totals) : totals_(std::move(totals)) {}
  /// In memory of its own.
  explicit RouterStats(const ModelConfig& config);

  /// Adds one micro-batch's routing of all layers; a ForwardContext::on_routing.
  void add(std::span<const Routing> layers) { add_routing(layers, totals_); }
  void clear() { totals_.fill_zero(); }

  const Tensor& totals() const { return totals_; }
  /// Rows per expert of one layer: f64 [E], whole numbers.
  Tensor expert_load(std::int64_t layer) const;

 private:
  Tensor totals_;
};

}  // namespace smoe
