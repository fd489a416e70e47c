// AdamW: Adam with decoupled weight decay (arXiv:1711.05101) on a ParameterStore's flat buffers.
#pragma once
#include <vector>

#include "autograd/parameter_store.h"
#include "core/state.h"
#include "kernels/optimizer.h"
#include "optim/optim_config.h"

namespace smoe {

class AdamW {
 public:
  /// Zero moments for the store's own elements, which are what this updates. The store must outlive
  /// this. Throws: UsageError for a hyper-parameter out of range.
  AdamW(ParameterStore& store, const OptimConfig& config);

  /// Updates master weights, moments and, in the same pass, the bf16 weights that ops read, from
  /// the store's gradient times `gradient_scale` (f64 [1] on the device; undefined: 1). Weight
  /// decay applies to parameters with decays(). If the scale is not finite, nothing changes.
  /// `step_number` counts updates from 1 and corrects the moments' bias; `lr` is the scheduled
  /// learning rate. Throws: UsageError for a step_number below 1 or a scale of another shape.
  void step(double lr, std::int64_t step_number, const Tensor& gradient_scale);

  /// Visits this rank's elements of the moments, part by part as "optimizer.m/" and
  /// "optimizer.v/" + its name.
  void visit_state(StateVisitor& visitor);
  /// The moments as they are in memory, [num_own] each, as "optimizer.m" and "optimizer.v".
  void visit_buffers(StateVisitor& visitor);

 private:
  ParameterStore& store_;
  OptimConfig config_;
  std::vector<kernels::AdamwRange> ranges_;                 // of compute()
  std::vector<kernels::AdamwRange> full_precision_ranges_;  // of full_precision(), if it is apart
  Tensor m_, v_;                                            // [own elements]
};

}  // namespace smoe
