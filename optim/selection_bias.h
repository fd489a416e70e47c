// Load balancing by a selection bias on the router's scores, without an auxiliary loss.
#pragma once
#include "core/tensor.h"

namespace smoe {

/// bias[e] += rate * sign(mean of load - load[e]), once per optimizer step. bias f32 [E], load f64
/// [E], whole numbers, over the step's micro-batches. Nothing changes if `gradient_scale`, f64 [1]
/// or undefined, is not finite. Source: arXiv:2408.15664, Algorithm 1.
/// Throws: UsageError if their shapes differ.
void update_selection_bias(const Tensor& bias, const Tensor& load, double rate,
                           const Tensor& gradient_scale = {});

}  // namespace smoe
