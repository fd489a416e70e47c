// Dense GEMM.
#pragma once
#include "core/base/launch.h"
#include "core/base/matrix.h"

namespace smoe::kernels {

/// c = op(a) op(b) + beta c, with op(a) [m, k], op(b) [k, n], c [m, n]. Accumulates in f32 (f64 if
/// any operand is f64). The dtypes may differ: each operand is converted when it is read and the
/// result when it is written. beta == 0 never reads c. c must not overlap a or b.
struct GemmArgs {
  ConstMatrix a;
  bool transpose_a = false;
  ConstMatrix b;
  bool transpose_b = false;
  Matrix c;
  double beta = 0;
  void* workspace = nullptr;  ///< gemm_workspace_bytes(), on the launch's device
};
void gemm(const Launch& launch, const GemmArgs& args);

/// Bytes of workspace that gemm needs, possibly 0.
std::int64_t gemm_workspace_bytes(const Launch& launch, const GemmArgs& args);

}  // namespace smoe::kernels
