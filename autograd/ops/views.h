// Tensors and plans as kernels see them.
#pragma once
#include <type_traits>

#include "autograd/routing_plan.h"
#include "core/base/matrix.h"
#include "core/device.h"
#include "core/tensor.h"
#include "kernels/grouped_gemm.h"

namespace smoe {

/// A tensor [rows, ..., cols] as the matrix of its last dimension's rows.
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

/// All matrices of a weight [E, ..., cols], each with the dimensions between as its rows.
inline kernels::ExpertMatrices experts_of(const Tensor& weight) {
  const std::int64_t cols = weight.dim(-1);
  std::int64_t rows = 1;
  for (int i = 1; i + 1 < weight.rank(); ++i) rows *= weight.dim(i);
  return {weight.data(), weight.dtype(), rows, cols};
}

/// Scratch memory for one kernel call; undefined where none is needed.
inline Tensor workspace(std::int64_t bytes) {
  return bytes == 0 ? Tensor() : Tensor::empty({bytes}, DType::u8, Category::workspace);
}

/// The memory itself, or null.
inline void* data_or_null(const Tensor& x) {
  return x.defined() ? x.data() : nullptr;
}

/// Calls a kernel on the current stream with scratch memory of the size it asks for.
template <class Args>
void run_kernel(void (*kernel)(const Launch&, const Args&),
                std::int64_t (*workspace_bytes)(const Launch&, const Args&),
                std::type_identity_t<Args> args) {
  const Tensor scratch = workspace(workspace_bytes(launch(), args));
  args.workspace = data_or_null(scratch);
  kernel(launch(), args);
}

}  // namespace smoe
