// AdamW: Adam with decoupled weight decay (arXiv:1711.05101) on a ParameterStore's flat arenas.
#pragma once
#include <vector>

#include "autograd/parameter_store.h"
#include "core/state.h"
#include "kernels/optimizer.h"
#include "optim/optim_config.h"
#include "optim/shards.h"

namespace smoe {

class AdamW {
 public:
  /// Zero moments in the master dtype for the elements of `shards`. The store must outlive this.
  /// Throws: UsageError for a hyper-parameter out of range.
  AdamW(ParameterStore& store, const OptimConfig& config, Shards shards);
  /// The same for all elements.
  AdamW(ParameterStore& store, const OptimConfig& config)
      : AdamW(store, config, Shards(store.master().numel())) {}

  /// Updates, of its own elements, master weights, moments and, in the same pass, the bf16 weights
  /// that ops read, from the store's gradient times `gradient_scale` (f64 [1] on the device;
  /// undefined: 1). Decay applies to parameters with decays(). Where the scale is not finite
  /// nothing changes. `step_number` counts updates from 1 on and corrects the moments' bias; `lr`
  /// is the rate after the schedule. Throws: UsageError for a step_number below 1 or a scale of
  /// another shape.
  void step(double lr, std::int64_t step_number, const Tensor& gradient_scale);

  /// Shows the moments of each part of each parameter: "optimizer.m/" and "optimizer.v/" + its
  /// name. Where they are sharded, all ranks must visit together.
  void visit_state(StateVisitor& visitor);

 private:
  ParameterStore& store_;
  OptimConfig config_;
  Shards shards_;
  std::vector<std::vector<kernels::AdamwRange>> ranges_;  // of each own piece, from its start
  Tensor m_, v_;                                          // [own elements]
};

}  // namespace smoe
