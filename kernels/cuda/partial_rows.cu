#include "kernels/cuda/partial_rows.h"

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launch_following.cuh"

namespace smoe::kernels::cuda {
namespace {

// Thread (i, j) of a block accumulates rows i, i + 32, ... of column j; then a warp reduction adds
// the 32 partial sums of a column.
template <class T>
__global__ void __launch_bounds__(kWarp* kWarp)
    add_partial_rows_kernel(const float* partials, std::int64_t num_rows, std::int64_t n,
                            float beta, T* sums) {
  follow_preceding_kernel();
  __shared__ float shared[kWarp][kWarp + 1];
  const std::int64_t column = std::int64_t{blockIdx.x} * kWarp + threadIdx.x;
  float sum = 0;
  if (column < n) {
#pragma unroll 8
    for (std::int64_t i = threadIdx.y; i < num_rows; i += kWarp) sum += partials[i * n + column];
  }
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  sum = reduce_warp(shared[threadIdx.x][threadIdx.y], Sum{});
  const std::int64_t target = std::int64_t{blockIdx.x} * kWarp + threadIdx.y;
  if (threadIdx.x == 0 && target < n)
    sums[target] = from_f32<T>(beta == 0 ? sum : beta * to_f32(sums[target]) + sum);
}

}  // namespace

void add_partial_rows(const Launch& launch, const float* partials, std::int64_t num_rows,
                      std::int64_t n, double beta, void* sums, DType dtype) {
  if (n == 0) return;
  dispatch_storage("add_partial_rows", dtype, [&](auto type) {
    using T = decltype(type);
    launch_following<add_partial_rows_kernel<T>>(
        launch, {static_cast<unsigned>(ceil_div(n, kWarp)), dim3(kWarp, kWarp)}, partials, num_rows,
        n, static_cast<float>(beta), static_cast<T*>(sums));
  });
}

}  // namespace smoe::kernels::cuda
