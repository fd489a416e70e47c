// Load balancing by a selection bias on the router's scores, without an auxiliary loss.
#pragma once
#include "core/tensor.h"

namespace smoe {

/// bias[e] += rate * sign(mean of load - load[e]), once per optimizer step. bias f32 [E], load i64
/// [E] over the step's micro-batches. Source: arXiv:2408.15664, Algorithm 1.
/// Throws: UsageError if their shapes differ.
void update_selection_bias(const Tensor& bias, const Tensor& load, double rate);

}  // namespace smoe
