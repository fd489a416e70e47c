// AdamW: Adam with decoupled weight decay (arXiv:1711.05101) on a ParameterStore's flat buffers.
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
  /// Zero moments in the master dtype for this rank's elements of `shards`. The store must outlive
  /// this. Throws: UsageError for a hyper-parameter out of range.
  AdamW(ParameterStore& store, const OptimConfig& config, Shards shards);
  /// The same for all elements.
  AdamW(ParameterStore& store, const OptimConfig& config)
      : AdamW(store, config, Shards(store.master().numel())) {}

  /// Updates this rank's elements: master weights, moments and, in the same pass, the bf16 compute
  /// weights, from the store's gradient times `gradient_scale` (f64 [1] on the device; undefined:
  /// 1). Weight decay applies to parameters with decays(). If the scale is not finite, nothing
  /// changes. `step_number` counts updates from 1 and corrects the moments' bias; `lr` is the
  /// scheduled learning rate. Throws: UsageError for a step_number below 1 or a scale of another
  /// shape.
  void step(double lr, std::int64_t step_number, const Tensor& gradient_scale);

  /// Visits the moments of each part of each parameter as "optimizer.m/" and "optimizer.v/" + its
  /// name. A collective operation if they are sharded.
  void visit_state(StateVisitor& visitor);

 private:
  ParameterStore& store_;
  OptimConfig config_;
  Shards shards_;
  std::vector<std::vector<kernels::AdamwRange>> ranges_;  // of each own part, relative to its begin
  Tensor m_, v_;                                          // [own elements]
};

}  // namespace smoe
