// Grouped GEMMs over routed rows (ScatterMoE, arXiv:2403.08245): rows are gathered and scattered by
// index inside the kernel; but for one case (expert_gradient) none are copied to sort or pad them.
#pragma once
#include "core/base/launch.h"
#include "core/base/matrix.h"
#include "kernels/routing_view.h"

namespace smoe::kernels {

/// Routed rows in one of the two orders: [N, cols], or scattered [T, cols] with one row per token
/// for all of its K slots.
struct RoutedRows {
  ConstMatrix rows;
  RowLayout layout;
};

/// One row-major matrix per expert: [E, rows, cols].
struct ExpertMatrices {
  const void* data;
  DType dtype;
  std::int64_t rows;
  std::int64_t cols;

  ConstMatrix operator[](std::int64_t expert) const {
    const auto* bytes = static_cast<const char*>(data);
    return {bytes + expert * rows * cols * size_of(dtype), dtype, rows, cols, cols};
  }
};

/// y[p] = W[e(p)] x[p] + bias[e(p)] per routed row p, for all four pairs of layouts of x and y
/// (ScatterMoE's scatter2scatter); with `transpose_weight` y[p] = W[e(p)]^T x[p]. Accumulates in
/// f32 (f64 if any array is f64). y must not overlap the others.
struct GroupedGemmArgs {
  RoutingView routing;
  RoutedRows x;
  ExpertMatrices weight;  ///< [E, D_out, D_in]
  bool transpose_weight = false;
  ConstMatrix bias = {};  ///< [E, D_out], or no data
  Matrix y;               ///< [N, D_out], D_in columns if transposed
  RowLayout y_layout = RowLayout::grouped;
  void* workspace = nullptr;
  /// The GEMM may run beside the stream's preceding kernel, on SMs that it has left, because
  /// neither writes what the other one accesses. Earlier ones are complete, and the next kernel
  /// finds both complete.
  bool overlaps_preceding = false;
};
void grouped_gemm(const Launch& launch, const GroupedGemmArgs& args);
std::int64_t grouped_gemm_workspace_bytes(const Launch& launch, const GroupedGemmArgs& args);

/// Weight gradient: dW[e] = sum over e's rows of dy[p] x[p]^T + beta dW[e], and dbias[e] = sum of
/// dy[p] + bias_beta dbias[e]. For an expert without rows the sum is 0. With beta == 0 the previous
/// value is not read. Sums are accumulated in the accumulation dtype of dy and x; bf16 gradients
/// are rounded once, after beta times the previous value is added. Where both dy and x are
/// scattered, the sm90 form reads the narrower one from a copy in grouped order, which is its
/// workspace: TMA cannot gather rows.
struct ExpertGradientArgs {
  RoutingView routing;
  RoutedRows dy;  ///< [., D_out]
  RoutedRows x;   ///< [., D_in]
  DType dtype;    ///< of the gradients: the accumulation dtype of dy and x, or bf16
  void* dweight;  ///< [E, D_out, D_in], or null
  double beta = 0;
  void* dbias = nullptr;  ///< [E, D_out], or null
  double bias_beta = 0;
  void* workspace = nullptr;
  bool overlaps_preceding = false;  ///< as in GroupedGemmArgs
};
void expert_gradient(const Launch& launch, const ExpertGradientArgs& args);
std::int64_t expert_gradient_workspace_bytes(const Launch& launch, const ExpertGradientArgs& args);

/// grouped[p] = gates[p's token and slot] * x[p], rounded once; without gates they are all 1.
struct GroupArgs {
  RoutingView routing;
  ConstMatrix x;                ///< scattered, [N, D] or [T, D]
  const void* gates = nullptr;  ///< [T, K] in x's accumulation dtype, or null
  Matrix grouped;               ///< [N, D], x's dtype
};
void group(const Launch& launch, const GroupArgs& args);

}  // namespace smoe::kernels
