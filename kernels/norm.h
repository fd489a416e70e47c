// RMSNorm, optionally fused with the residual add.
#pragma once
#include "core/base/launch.h"
#include "core/base/matrix.h"

namespace smoe::kernels {

/// For each row: y = x * inverse_rms * weight, inverse_rms = 1 / sqrt(mean(x^2) + epsilon).
/// With `delta`, x = residual + delta is computed first, rounded to its dtype and written to `sum`;
/// the norm reads the rounded sum. With `grouped_rows`, delta is that of combine:
/// delta[t] = sum_j delta[grouped_rows[t top_k + j]], in slot order, rounded before it is added.
/// Source: arXiv:1910.07467.
struct RmsNormArgs {
  ConstMatrix x;       ///< [T, D]; the residual if there is a delta
  ConstMatrix delta;   ///< [T, D], or [N, D] with grouped_rows, or no data
  Matrix sum;          ///< [T, D], or no data; may be `x`, or `delta` without grouped_rows
  const void* weight;  ///< [D], accumulation dtype
  Matrix y;            ///< [T, D]; may be `x`
  void* inverse_rms;   ///< [T], accumulation dtype
  double epsilon;
  const std::int32_t* grouped_rows = nullptr;  ///< [N]
  std::int64_t top_k = 0;                      ///< K, with grouped_rows
};
void rms_norm(const Launch& launch, const RmsNormArgs& args);

/// The gradient [T, D] of a norm's output in parts, which are added up where they are read, in the
/// accumulation dtype:
///   dy[t] = sum_j rows[grouped_rows[t top_k + j]] + dense[t] + sum_e dlogits[t, e] weight[e],
/// what combine, gemm and add compute one after the other. At least one part has data.
struct GradientParts {
  ConstMatrix dense = {};                      ///< [T, D]
  ConstMatrix rows = {};                       ///< [N, D], grouped
  const std::int32_t* grouped_rows = nullptr;  ///< [N], with rows
  std::int64_t top_k = 0;                      ///< K, with rows
  ConstMatrix dlogits = {};                    ///< [T, E], accumulation dtype
  ConstMatrix weight = {};                     ///< [E, D], accumulation dtype; with dlogits
};

/// The largest E for which dlogits as a part are faster than their GEMM: so many rows of the weight
/// fit into a GPU's registers.
constexpr std::int64_t kMaxPartExperts = 8;

/// dx = dsum + gradient of the norm's input, dweight = beta dweight + gradient of its weight.
/// dweight is accumulated over fixed blocks of rows, then by a fixed tree over the blocks, and
/// rounded to its dtype once.
struct RmsNormBackwardArgs {
  ConstMatrix x;            ///< [T, D], the input that was normalized
  const void* inverse_rms;  ///< [T], accumulation dtype, from rms_norm
  const void* weight;       ///< [D], accumulation dtype
  GradientParts dy;
  ConstMatrix dsum;           ///< [T, D], gradient of x along the residual path, or no data
  Matrix dx;                  ///< [T, D]; may be `dy.dense`, `dsum` or `x`
  void* dweight;              ///< [D]; null: not computed
  DType dweight_dtype;        ///< accumulation dtype, or bf16
  double beta;                ///< 0 never reads dweight
  void* workspace = nullptr;  ///< rms_norm_backward_workspace_bytes()
};
void rms_norm_backward(const Launch& launch, const RmsNormBackwardArgs& args);

std::int64_t rms_norm_backward_workspace_bytes(const Launch& launch,
                                               const RmsNormBackwardArgs& args);

}  // namespace smoe::kernels
