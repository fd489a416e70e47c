// Tensors and routing plans as kernels take them.
#pragma once
#include "autograd/routing_plan.h"
#include "core/base/matrix.h"
#include "core/tensor.h"
#include "kernels/grouped_gemm.h"

namespace smoe {

/// A tensor [rows, ..., cols] as a matrix of all rows of its last dimension.
inline Matrix matrix_of(const Tensor& x) {
  SMOE_INTERNAL_CHECK(x.rank() >= 1, "matrix_of: a rank-0 tensor has no rows");
  const std::int64_t cols = x.dim(-1);
  return {x.data(), x.dtype(), cols == 0 ? x.dim(0) : x.numel() / cols, cols, cols};
}

inline kernels::RoutingView view_of(const RoutingPlan& plan) {
  return {plan.num_tokens,
          plan.top_k,
          plan.num_experts,
          plan.sorted_scattered_ids.data_as<std::int32_t>(),
          plan.grouped_rows.data_as<std::int32_t>(),
          plan.expert_offsets.data_as<std::int32_t>()};
}

/// A weight [E, ..., cols] as one matrix per expert; the dimensions in between are its rows.
inline kernels::ExpertMatrices experts_of(const Tensor& weight) {
  const std::int64_t cols = weight.dim(-1);
  std::int64_t rows = 1;
  for (int i = 1; i + 1 < weight.rank(); ++i) rows *= weight.dim(i);
  return {weight.data(), weight.dtype(), rows, cols};
}

/// The tensor's memory, or null if it is undefined.
inline void* data_or_null(const Tensor& x) {
  return x.defined() ? x.data() : nullptr;
}

}  // namespace smoe
