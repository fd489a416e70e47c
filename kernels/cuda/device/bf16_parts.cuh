// f32 matrices as exact sums of three bf16 matrices, each with the next eight bits of the mantissa,
// so that tensor cores, which multiply bf16 and accumulate in f32, can multiply f32.
#pragma once
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {

constexpr int kPartsThreads = 256;

/// The parts in a stack in order: part 0 has the leading eight bits, 1 and 2 the following ones.
struct PartOrder {
  int count;
  int part[6];
};

/// A stack of `count` matrices of the shape of `m` at `memory`, concatenated along rows or columns.
inline Matrix stacked(void* memory, DType dtype, const ConstMatrix& m, bool along_rows, int count) {
  const std::int64_t rows = m.rows * (along_rows ? count : 1);
  const std::int64_t cols = m.cols * (along_rows ? 1 : count);
  return {memory, dtype, rows, cols, cols};
}
/// The bytes of m, padded to the alignment of the next array.
inline std::int64_t padded_bytes(const Matrix& m) {
  return ceil_div(m.rows * m.cols * size_of(m.dtype), 256) * 256;
}

namespace detail {

/// Part `which` of x. Truncation keeps the sign of the remainder, so that no part overflows.
__device__ inline float shard_range(float x, int which) {
  if (!isfinite(x)) return which == 0 ? x : 0;
  float part = 0;
  for (int i = 0; i <= which; ++i) {
    x -= part;
    part = __bfloat162float(__float2bfloat16_rz(x));
  }
  return part;
}

/// The first element of matrix i of a stack of matrices [rows, cols].
template <class T>
__device__ T* stack_layer(const Matrix& stack, std::int64_t rows, std::int64_t cols, int i) {
  const bool along_rows = stack.cols == cols;
  return static_cast<T*>(stack.data) + i * (along_rows ? rows * stack.stride : cols);
}

template <int N>
__global__ void __launch_bounds__(kPartsThreads)
    gemm_split_bf16_kernel(ConstMatrix source, Matrix target, PartOrder order) {
  const std::int64_t at = (std::int64_t{blockIdx.x} * kPartsThreads + threadIdx.x) * N;
  const std::int64_t i = at / source.cols, j = at % source.cols;
  if (i >= source.rows) return;
  float x[N], part[N];
  load(row_of<float>(source, i) + j, x);
  for (int layer = 0; layer < order.count; ++layer) {
#pragma unroll
    for (int k = 0; k < N; ++k) part[k] = shard_range(x[k], order.part[layer]);
    store(
        stack_layer<__nv_bfloat16>(target, source.rows, source.cols, layer) + i * target.stride + j,
        part);
  }
}

template <int N, class T>
__global__ void __launch_bounds__(kPartsThreads)
    gemm_add_bf16_parts_kernel(Matrix parts, Matrix c, float beta) {
  const std::int64_t at = (std::int64_t{blockIdx.x} * kPartsThreads + threadIdx.x) * N;
  const std::int64_t i = at / c.cols, j = at % c.cols;
  if (i >= c.rows) return;
  float sum[N] = {}, part[N];
  for (int layer = 2; layer >= 0; --layer) {  // smallest magnitude first
    load(stack_layer<float>(parts, c.rows, c.cols, layer) + i * parts.stride + j, part);
#pragma unroll
    for (int k = 0; k < N; ++k) sum[k] += part[k];
  }
  if (beta != 0) {
    load(row_of<T>(c, i) + j, part);
#pragma unroll
    for (int k = 0; k < N; ++k) sum[k] += beta * part[k];
  }
  store(row_of<T>(c, i) + j, sum);
}

}  // namespace detail

/// Layer i of `target` = part order.part[i] of the f32 matrix `source`. `target` is a bf16
/// stacked() of `source`.
inline void split_bf16_parts(const Launch& launch, const ConstMatrix& source, const Matrix& target,
                             const PartOrder& order) {
  dispatch_width(fits_width(source) && is_aligned(target.data), [&](auto width) {
    const std::int64_t blocks = ceil_div(source.rows * source.cols, width * kPartsThreads);
    detail::gemm_split_bf16_kernel<width>
        <<<static_cast<unsigned>(blocks), kPartsThreads, 0, stream_of(launch)>>>(source, target,
                                                                                 order);
    check_launch("gemm");
  });
}

/// c = beta c + the sum of the three matrices in `parts`, an f32 stacked() of `c`.
inline void add_bf16_parts(const Launch& launch, const Matrix& parts, const Matrix& c, float beta) {
  dispatch_storage("gemm", c.dtype, [&](auto type) {
    dispatch_width(fits_width(c) && is_aligned(parts.data), [&](auto width) {
      const std::int64_t blocks = ceil_div(c.rows * c.cols, width * kPartsThreads);
      detail::gemm_add_bf16_parts_kernel<width, decltype(type)>
          <<<static_cast<unsigned>(blocks), kPartsThreads, 0, stream_of(launch)>>>(parts, c, beta);
      check_launch("gemm");
    });
  });
}

}  // namespace smoe::kernels::cuda
