// An f32 number as the exact sum of three bf16 numbers, each with the next eight bits of it, so
// that tensor cores, which multiply bf16 and add up in f32, can multiply f32.
#pragma once
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {

constexpr int kPartsThreads = 256;

/// The parts that lie one after the other in a stack: 0 the leading eight bits, 1 and 2 those
/// behind.
struct PartOrder {
  int count;
  int part[6];
};

/// `count` matrices like `m`, one below or beside the other, at `memory`.
inline Matrix stacked(void* memory, DType dtype, const ConstMatrix& m, bool below, int count) {
  const std::int64_t rows = m.rows * (below ? count : 1);
  const std::int64_t cols = m.cols * (below ? 1 : count);
  return {memory, dtype, rows, cols, cols};
}
/// Its bytes, as a multiple of what alignment asks for.
inline std::int64_t padded_bytes(const Matrix& m) {
  return ceil_div(m.rows * m.cols * size_of(m.dtype), 256) * 256;
}

namespace detail {

/// Part `which` of x. What is cut off to zero has x's sign, so that no part overflows.
__device__ inline float shard_range(float x, int which) {
  if (!isfinite(x)) return which == 0 ? x : 0;
  float part = 0;
  for (int i = 0; i <= which; ++i) {
    x -= part;
    part = __bfloat162float(__float2bfloat16_rz(x));
  }
  return part;
}

/// Where matrix i of a stack begins; each has `rows` and `cols`.
template <class T>
__device__ T* at_layer(const Matrix& stack, std::int64_t rows, std::int64_t cols, int i) {
  const bool below = stack.cols == cols;
  return static_cast<T*>(stack.data) + i * (below ? rows * stack.stride : cols);
}

template <int N>
__global__ void __launch_bounds__(kPartsThreads)
    split_in_parts(ConstMatrix source, Matrix target, PartOrder order) {
  const std::int64_t at = (std::int64_t{blockIdx.x} * kPartsThreads + threadIdx.x) * N;
  const std::int64_t i = at / source.cols, j = at % source.cols;
  if (i >= source.rows) return;
  float x[N], part[N];
  load(row_of<float>(source, i) + j, x);
  for (int layer = 0; layer < order.count; ++layer) {
#pragma unroll
    for (int k = 0; k < N; ++k) part[k] = shard_range(x[k], order.part[layer]);
    store(at_layer<__nv_bfloat16>(target, source.rows, source.cols, layer) + i * target.stride + j,
          part);
  }
}

template <int N>
__global__ void __launch_bounds__(kPartsThreads) add_parts(Matrix parts, Matrix c, float beta) {
  const std::int64_t at = (std::int64_t{blockIdx.x} * kPartsThreads + threadIdx.x) * N;
  const std::int64_t i = at / c.cols, j = at % c.cols;
  if (i >= c.rows) return;
  float sum[N] = {}, part[N];
  for (int layer = 2; layer >= 0; --layer) {  // the smallest first
    load(at_layer<float>(parts, c.rows, c.cols, layer) + i * parts.stride + j, part);
#pragma unroll
    for (int k = 0; k < N; ++k) sum[k] += part[k];
  }
  if (beta != 0) {
    load(row_of<float>(c, i) + j, part);
#pragma unroll
    for (int k = 0; k < N; ++k) sum[k] += beta * part[k];
  }
  store(row_of<float>(c, i) + j, sum);
}

}  // namespace detail

/// Layer i of `target`, a stacked() one of `source` in bf16, = part order.part[i] of the f32
/// numbers in `source`.
inline void split_in_parts(const Launch& launch, const ConstMatrix& source, const Matrix& target,
                           const PartOrder& order) {
  dispatch_width(fits_width(source) && is_aligned(target.data), [&](auto width) {
    const std::int64_t blocks = ceil_div(source.rows * source.cols, width * kPartsThreads);
    detail::split_in_parts<width>
        <<<static_cast<unsigned>(blocks), kPartsThreads, 0, stream_of(launch)>>>(source, target,
                                                                                 order);
    check_launch("gemm");
  });
}

/// c = beta c + the sum of the three in `parts`, a stacked() one of `c` in f32.
inline void add_parts(const Launch& launch, const Matrix& parts, const Matrix& c, float beta) {
  dispatch_width(fits_width(c) && is_aligned(parts.data), [&](auto width) {
    const std::int64_t blocks = ceil_div(c.rows * c.cols, width * kPartsThreads);
    detail::add_parts<width>
        <<<static_cast<unsigned>(blocks), kPartsThreads, 0, stream_of(launch)>>>(parts, c, beta);
    check_launch("gemm");
  });
}

}  // namespace smoe::kernels::cuda
