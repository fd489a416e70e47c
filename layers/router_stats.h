// RouterStats: totals of every layer's routing over the micro-batches of a step.
#pragma once
#include "autograd/ops.h"
#include "layers/model_config.h"

namespace smoe {

class RouterStats {
 public:
  /// Zeros; `loss_dtype` is the accumulation dtype of the model.
  RouterStats(const ModelConfig& config, DType loss_dtype);

  /// Adds one micro-batch's routing of a layer; a ForwardContext::on_routing.
  void add(std::size_t layer, const Routing& routing);
  void clear();

  /// Rows per expert: i64 [num_layers, E].
  const Tensor& expert_load() const { return expert_load_; }
  /// Sums of the balance and z losses: [num_layers, 2].
  const Tensor& losses() const { return losses_; }

 private:
  Tensor expert_load_, losses_;
};

}  // namespace smoe
