// GEMMs by cuBLASLt. It reads matrices as column-major, so it computes c^T = op(b)^T op(a)^T.
// Algorithms that depend on timing are excluded, and so is TF32.
#pragma once
#include "core/base/launch.h"
#include "core/base/matrix.h"

namespace smoe::kernels::cuda {

/// What NVIDIA recommends for Hopper.
inline constexpr std::int64_t kCublasltWorkspaceBytes = std::int64_t{32} << 20;

/// c = op(a) op(b) + beta c. a and b have one dtype; none of the matrices is empty.
struct CublasltGemm {
  ConstMatrix a, b;
  bool transpose_a, transpose_b;
  Matrix c;
  float beta;
};

/// `workspace` holds kCublasltWorkspaceBytes. Accumulates in f32.
void cublaslt_gemm(const Launch& launch, const CublasltGemm& gemm, void* workspace);

}  // namespace smoe::kernels::cuda
