// The projection of queries, keys and values with their rotation in its epilogue.
#pragma once
#include "kernels/gemm.h"
#include "kernels/rotary.h"

namespace smoe::kernels {

/// y = x W^T, then rotary of y in place. Where one kernel computes both, y is rounded once, after
/// the rotation, and else once by each part.
struct RotaryGemmArgs {
  ConstMatrix x;              ///< [T, D]
  ConstMatrix weight;         ///< [(H + 2 Hkv) C, D]
  RotaryArgs rotary;          ///< in place in y [T, (H + 2 Hkv) C]
  void* workspace = nullptr;  ///< rotary_gemm_workspace_bytes(), besides that of `rotary`

  const Matrix& y() const { return rotary.target; }
  GemmArgs gemm() const {
    return {.a = x, .b = weight, .transpose_b = true, .c = y(), .workspace = workspace};
  }
};
void rotary_gemm(const Launch& launch, const RotaryGemmArgs& args);

/// Bytes of workspace, possibly 0.
std::int64_t rotary_gemm_workspace_bytes(const Launch& launch, const RotaryGemmArgs& args);

}  // namespace smoe::kernels
