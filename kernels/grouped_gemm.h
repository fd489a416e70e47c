// Grouped matrix products over routed rows (ScatterMoE, arXiv:2403.08245): rows are gathered and
// scattered by index inside the product; no activation is copied to be sorted or padded.
#pragma once
#include <string>

#include "core/base/launch.h"
#include "core/base/matrix.h"
#include "kernels/routing_view.h"

namespace smoe::kernels {

/// Routed rows in one of the two orders: [N, cols], or scattered [T, cols] where a token's row
/// stands for its K pairs.
struct RoutedRows {
  ConstMatrix rows;
  RowLayout layout;
};

/// One matrix an expert, row-major: [E, rows, cols].
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

/// y[p] = W[e(p)] x[p] + bias[e(p)] for each routed row p: scatter2scatter in its four pairs of
/// layouts; with `transpose_weight` y[p] = W[e(p)]^T x[p]. Sums are kept in f32 (f64 if anything is
/// f64). y must not overlap the others.
struct GroupedGemmArgs {
  RoutingView routing;
  RoutedRows x;
  ExpertMatrices weight;  ///< [E, D_out, D_in]
  bool transpose_weight = false;
  ConstMatrix bias = {};  ///< [E, D_out], or no data
  Matrix y;               ///< [N, D_out], D_in columns if transposed
  RowLayout y_layout = RowLayout::grouped;
  void* workspace = nullptr;
};
void grouped_gemm(const Launch& launch, const GroupedGemmArgs& args);
std::int64_t grouped_gemm_workspace_bytes(const Launch& launch, const GroupedGemmArgs& args);

/// dW[e] = sum over e's rows of dy[p] x[p]^T + beta dW[e]; dbias[e] = sum of dy[p] + beta dbias[e].
/// An expert without rows gets beta times what it had; beta == 0 never reads. The gradients are in
/// the accumulation dtype of dy and x.
struct ExpertGradientArgs {
  RoutingView routing;
  RoutedRows dy;  ///< [., D_out]
  RoutedRows x;   ///< [., D_in]
  void* dweight;  ///< [E, D_out, D_in]
  double beta = 0;
  void* dbias = nullptr;  ///< [E, D_out], or null
  double bias_beta = 0;
  void* workspace = nullptr;
};
void expert_gradient(const Launch& launch, const ExpertGradientArgs& args);
std::int64_t expert_gradient_workspace_bytes(const Launch& launch, const ExpertGradientArgs& args);

/// What the products of routed rows (and those of moe_mlp.h) may run on, on a GPU.
struct ProductPolicy {
  bool hopper = true;  ///< wgmma and TMA on compute capability 9.0; else what runs on all
};
/// Sets it for the whole process, while no product is under way.
void set_product_policy(const ProductPolicy& policy);

/// What products with the matrices of `num_experts` experts, each like `weight`, run on, for
/// people: "wgmma", "mma.sync".
std::string product_engine(const Launch& launch, std::int64_t num_experts,
                           const ConstMatrix& weight);

/// grouped[p] = gates[p's pair] * x[p], rounded once; all ones without gates.
struct GroupArgs {
  RoutingView routing;
  ConstMatrix x;                ///< scattered, [N, D] or [T, D]
  const void* gates = nullptr;  ///< [T, K] in x's accumulation dtype, or null
  Matrix grouped;               ///< [N, D], x's dtype
};
void group(const Launch& launch, const GroupArgs& args);

}  // namespace smoe::kernels
