#include "kernels/cpu/blas.h"

#include <cblas.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <new>
#include <vector>

#include "kernels/threads.h"

// Exported by OpenBLAS but not declared in its headers; null in a build that hides them.
extern "C" {
__attribute__((weak)) void* blas_memory_alloc(int procpos);
__attribute__((weak)) void blas_memory_free(void* buffer);
}

namespace smoe::kernels::cpu {
namespace {

// The size of the buffer that OpenBLAS maps for each thread that calls it, with some margin.
constexpr std::size_t kBufferBytes = std::size_t{130} << 20;
constexpr int kMaxBuffers = 64;

void check_can_map_buffer() {
  void* const probe =
      ::mmap(nullptr, kBufferBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (probe == MAP_FAILED) throw std::bad_alloc();
  ::munmap(probe, kBufferBytes);
}

// OpenBLAS waits forever for a buffer that it cannot map. Where that can happen, the buffers of all
// threads are mapped in advance: OpenBLAS keeps them.
bool reserve_buffers() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return true;
  std::vector<void*> buffers;
  for (int i = 0; i < std::min(num_threads(), kMaxBuffers); ++i) {
    check_can_map_buffer();
    if (blas_memory_alloc != nullptr) buffers.push_back(blas_memory_alloc(0));
  }
  for (void* const buffer : buffers) blas_memory_free(buffer);
  return true;
}

void prepare_openblas() {
  [[maybe_unused]] static const bool done = (openblas_set_num_threads(1), reserve_buffers());
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

std::string blas_core() {
  return openblas_get_corename();
}

void blas_gemm(std::int64_t m, std::int64_t n, std::int64_t k, const BlasOperand<float>& a,
               const BlasOperand<float>& b, float beta, float* c, std::int64_t c_stride) {
  if (is_degenerate(m, n, k, beta, c, c_stride)) return;
  prepare_openblas();
  cblas_sgemm(CblasRowMajor, transposition(a.transpose), transposition(b.transpose),
              static_cast<blasint>(m), static_cast<blasint>(n), static_cast<blasint>(k), 1.0f,
              a.data, leading(a.stride), b.data, leading(b.stride), beta, c, leading(c_stride));
}

void blas_gemm(std::int64_t m, std::int64_t n, std::int64_t k, const BlasOperand<double>& a,
               const BlasOperand<double>& b, double beta, double* c, std::int64_t c_stride) {
  if (is_degenerate(m, n, k, beta, c, c_stride)) return;
  prepare_openblas();
  cblas_dgemm(CblasRowMajor, transposition(a.transpose), transposition(b.transpose),
              static_cast<blasint>(m), static_cast<blasint>(n), static_cast<blasint>(k), 1.0,
              a.data, leading(a.stride), b.data, leading(b.stride), beta, c, leading(c_stride));
}

}  // namespace smoe::kernels::cpu
