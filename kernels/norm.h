// RMSNorm, optionally fused with the residual add.
#pragma once
#include "core/base/launch.h"
#include "core/base/matrix.h"

namespace smoe::kernels {

/// For each row: y = x * inverse_rms * weight, inverse_rms = 1 / sqrt(mean(x^2) + epsilon).
/// With `delta`, x = residual + delta is computed first, rounded to its dtype and written to `sum`;
/// the norm reads the rounded sum. Source: arXiv:1910.07467.
struct RmsNormArgs {
  ConstMatrix x;       ///< [T, D]; the residual if there is a delta
  ConstMatrix delta;   ///< [T, D], or no data
  Matrix sum;          ///< [T, D], or no data; may be `x` or `delta`
  const void* weight;  ///< [D], accumulation dtype
  Matrix y;            ///< [T, D]; may be `x`
  void* inverse_rms;   ///< [T], accumulation dtype
  double epsilon;
};
void rms_norm(const Launch& launch, const RmsNormArgs& args);

/// dx = dsum + gradient of the norm's input, dweight = beta dweight + gradient of its weight.
/// dweight is accumulated over fixed blocks of rows, then by a fixed tree over the blocks.
struct RmsNormBackwardArgs {
  ConstMatrix x;              ///< [T, D], the input that was normalized
  const void* inverse_rms;    ///< [T], accumulation dtype, from rms_norm
  const void* weight;         ///< [D], accumulation dtype
  ConstMatrix dy;             ///< [T, D]
  ConstMatrix dsum;           ///< [T, D], gradient of x along the residual path, or no data
  Matrix dx;                  ///< [T, D]; may be `dy`, `dsum` or `x`
  void* dweight;              ///< [D], accumulation dtype
  double beta;                ///< 0 never reads dweight
  void* workspace = nullptr;  ///< rms_norm_backward_workspace_bytes()
};
void rms_norm_backward(const Launch& launch, const RmsNormBackwardArgs& args);

std::int64_t rms_norm_backward_workspace_bytes(const Launch& launch,
                                               const RmsNormBackwardArgs& args);

}  // namespace smoe::kernels
