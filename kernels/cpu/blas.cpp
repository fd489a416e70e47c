#include "kernels/cpu/blas.h"

#include <cblas.h>

#include <algorithm>

namespace smoe::kernels::cpu {
namespace {

void use_one_thread() {
  [[maybe_unused]] static const bool done = (openblas_set_num_threads(1), true);
}

CBLAS_TRANSPOSE transposition(bool transpose) {
  return transpose ? CblasTrans : CblasNoTrans;
}

// Handles the cases in which BLAS implementations differ. Returns whether it did.
template <class T>
bool is_degenerate(std::int64_t m, std::int64_t n, std::int64_t k, T beta, T* c,
                   std::int64_t c_stride) {
  if (m == 0 || n == 0) return true;
  if (k > 0) return false;
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      T& element = c[i * c_stride + j];
      element = beta == 0 ? T{0} : beta * element;
    }
  return true;
}

// BLAS requires a leading dimension of at least one, even for a single row.
blasint leading(std::int64_t stride) {
  return static_cast<blasint>(std::max<std::int64_t>(stride, 1));
}

}  // namespace

void blas_gemm(std::int64_t m, std::int64_t n, std::int64_t k, const BlasOperand<float>& a,
               const BlasOperand<float>& b, float beta, float* c, std::int64_t c_stride) {
  if (is_degenerate(m, n, k, beta, c, c_stride)) return;
  use_one_thread();
  cblas_sgemm(CblasRowMajor, transposition(a.transpose), transposition(b.transpose),
              static_cast<blasint>(m), static_cast<blasint>(n), static_cast<blasint>(k), 1.0f,
              a.data, leading(a.stride), b.data, leading(b.stride), beta, c, leading(c_stride));
}

void blas_gemm(std::int64_t m, std::int64_t n, std::int64_t k, const BlasOperand<double>& a,
               const BlasOperand<double>& b, double beta, double* c, std::int64_t c_stride) {
  if (is_degenerate(m, n, k, beta, c, c_stride)) return;
  use_one_thread();
  cblas_dgemm(CblasRowMajor, transposition(a.transpose), transposition(b.transpose),
              static_cast<blasint>(m), static_cast<blasint>(n), static_cast<blasint>(k), 1.0,
              a.data, leading(a.stride), b.data, leading(b.stride), beta, c, leading(c_stride));
}

}  // namespace smoe::kernels::cpu
