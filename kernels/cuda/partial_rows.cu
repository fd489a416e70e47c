#include "kernels/cuda/partial_rows.h"

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launch_following.cuh"

namespace smoe::kernels::cuda {
namespace {

// Thread (i, j) of a block accumulates rows i, i + 32, ... of column j; then a warp reduction adds
// the 32 partial sums of a column.
__global__ void __launch_bounds__(kWarp* kWarp)
    add_partial_rows_kernel(const float* partials, std::int64_t num_rows, std::int64_t n,
                            float beta, float* sums) {
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
  if (threadIdx.x == 0 && target < n) sums[target] = beta == 0 ? sum : beta * sums[target] + sum;
}

}  // namespace

void add_partial_rows(const Launch& launch, const float* partials, std::int64_t num_rows,
                      std::int64_t n, double beta, float* sums) {
  if (n == 0) return;
  launch_following<add_partial_rows_kernel>(
      launch, {static_cast<unsigned>(ceil_div(n, kWarp)), dim3(kWarp, kWarp)}, partials, num_rows,
      n, static_cast<float>(beta), sums);
}

}  // namespace smoe::kernels::cuda
