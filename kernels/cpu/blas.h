// GEMM on the calling thread, by OpenBLAS. OpenBLAS's own threads are disabled: they split a GEMM
// by their number, so its bits would depend on it.
#pragma once
#include <cstdint>
#include <string>

namespace smoe::kernels::cpu {

/// The name of the CPU core whose kernels OpenBLAS uses, chosen when the program starts:
/// "Haswell".
std::string blas_core();

template <class T>
struct BlasOperand {
  const T* data;
  std::int64_t stride;     ///< elements from one stored row to the next
  bool transpose = false;  ///< the operand is the transpose of the stored matrix
};

/// c = op(a) op(b) + beta c, row-major, op(a) [m, k], op(b) [k, n]. beta == 0 never reads c; if
/// k == 0, c = beta c.
void blas_gemm(std::int64_t m, std::int64_t n, std::int64_t k, const BlasOperand<float>& a,
               const BlasOperand<float>& b, float beta, float* c, std::int64_t c_stride);
void blas_gemm(std::int64_t m, std::int64_t n, std::int64_t k, const BlasOperand<double>& a,
               const BlasOperand<double>& b, double beta, double* c, std::int64_t c_stride);

}  // namespace smoe::kernels::cpu
