// RMSNorm: one thread block per row, which reads it once from memory and again from cache. With
// r = inverse_rms and g = dy * weight, dx = r (g - x r^2 mean(g x)) and
// dweight = sum over rows of dy x r.
#include "kernels/norm.h"

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {
namespace {

constexpr int kThreads = 128;

template <int N, class T>
__global__ void __launch_bounds__(kThreads) rms_norm_forward_kernel(RmsNormArgs args) {
  __shared__ float scratch[kThreads / kWarp];
  const std::int64_t row = blockIdx.x, n = args.x.cols;
  const T* x = row_of<T>(args.x, row);
  float squares = 0;
  if (args.delta.data) {
    const T* delta = row_of<T>(args.delta, row);
    T* sum = row_of<T>(args.sum, row);
    for (std::int64_t j = threadIdx.x * N; j < n; j += kThreads * N) {
      float a[N], b[N];
      load(x + j, a);
      load(delta + j, b);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        a[i] = to_f32(from_f32<T>(a[i] + b[i]));
        squares += a[i] * a[i];
      }
      store(sum + j, a);
    }
    x = sum;  // each thread reads back only what it wrote
  } else {
    for (std::int64_t j = threadIdx.x * N; j < n; j += kThreads * N) {
      float a[N];
      load(x + j, a);
#pragma unroll
      for (int i = 0; i < N; ++i) squares += a[i] * a[i];
    }
  }
  squares = reduce_block<kThreads>(squares, Sum{}, scratch);
  const float mean = squares / static_cast<float>(n);
  const float inverse_rms = 1.0f / sqrtf(mean + static_cast<float>(args.epsilon));
  if (threadIdx.x == 0) static_cast<float*>(args.inverse_rms)[row] = inverse_rms;
  const float* weight = static_cast<const float*>(args.weight);
  T* y = row_of<T>(args.y, row);
  for (std::int64_t j = threadIdx.x * N; j < n; j += kThreads * N) {
    float a[N], w[N];
    load(x + j, a);
    load(weight + j, w);
#pragma unroll
    for (int i = 0; i < N; ++i) a[i] = a[i] * inverse_rms * w[i];
    store(y + j, a);
  }
}

// The number of rows per thread block of the backward; each block writes one partial dweight. It
// depends only on the number of rows, so that results are the same on every GPU.
std::int64_t rows_of_block(std::int64_t rows) {
  constexpr std::int64_t kMin = 16, kMaxBlocks = 1024;
  return std::max(kMin, ceil_div(rows, kMaxBlocks));
}
std::int64_t num_partials(std::int64_t rows) {
  return ceil_div(rows, rows_of_block(rows));
}

// A partial dweight is accumulated in shared memory if it fits, else in global memory.
constexpr std::int64_t kMaxSharedBytes = 48 << 10;

template <int N, class T>
__global__ void __launch_bounds__(kThreads)
    rms_norm_backward_kernel(RmsNormBackwardArgs args, std::int64_t rows_of_block, bool is_shared) {
  extern __shared__ float shared[];
  __shared__ float scratch[kThreads / kWarp];
  const std::int64_t n = args.x.cols;
  float* const result = static_cast<float*>(args.workspace) + blockIdx.x * n;
  float* const partial = is_shared ? shared : result;
  const float* weight = static_cast<const float*>(args.weight);
  for (std::int64_t j = threadIdx.x * N; j < n; j += kThreads * N)
    store<N>(partial + j, {});  // each column belongs to one thread
  const std::int64_t begin = blockIdx.x * rows_of_block;
  const std::int64_t end = min(begin + rows_of_block, static_cast<std::int64_t>(args.x.rows));
  for (std::int64_t row = begin; row < end; ++row) {
    const T* x = row_of<T>(args.x, row);
    const T* dy = row_of<T>(args.dy, row);
    const float inverse_rms = static_cast<const float*>(args.inverse_rms)[row];
    float dot = 0;
    for (std::int64_t j = threadIdx.x * N; j < n; j += kThreads * N) {
      float a[N], g[N], w[N];
      load(x + j, a);
      load(dy + j, g);
      load(weight + j, w);
#pragma unroll
      for (int i = 0; i < N; ++i) dot += g[i] * w[i] * a[i];
    }
    dot = reduce_block<kThreads>(dot, Sum{}, scratch);
    const float shrink = inverse_rms * inverse_rms * dot / static_cast<float>(n);
    for (std::int64_t j = threadIdx.x * N; j < n; j += kThreads * N) {
      float a[N], g[N], w[N], sum[N], residual[N] = {};
      load(x + j, a);
      load(dy + j, g);
      load(weight + j, w);
      load(partial + j, sum);
      if (args.dsum.data) load(row_of<T>(args.dsum, row) + j, residual);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        sum[i] += g[i] * a[i] * inverse_rms;
        a[i] = residual[i] + inverse_rms * (g[i] * w[i] - a[i] * shrink);
      }
      store(partial + j, sum);
      store(row_of<T>(args.dx, row) + j, a);
    }
  }
  if (!is_shared) return;
  for (std::int64_t j = threadIdx.x * N; j < n; j += kThreads * N) {
    float sum[N];
    load(partial + j, sum);
    store(result + j, sum);
  }
}

// dweight = beta dweight + sum of the partial rows. Thread (i, j) of a block accumulates rows i,
// i + 32, ... of column j; then a warp reduction adds the 32 partial sums of a column.
__global__ void __launch_bounds__(kWarp* kWarp)
    rms_norm_backward_dweight_kernel(const float* partials, std::int64_t num_partials,
                                     std::int64_t n, float beta, float* dweight) {
  __shared__ float sums[kWarp][kWarp + 1];
  const std::int64_t column = std::int64_t{blockIdx.x} * kWarp + threadIdx.x;
  float sum = 0;
  if (column < n)
    for (std::int64_t i = threadIdx.y; i < num_partials; i += kWarp)
      sum += partials[i * n + column];
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  sum = reduce_warp(sums[threadIdx.x][threadIdx.y], Sum{});
  const std::int64_t target = std::int64_t{blockIdx.x} * kWarp + threadIdx.y;
  if (threadIdx.x == 0 && target < n)
    dweight[target] = beta == 0 ? sum : beta * dweight[target] + sum;
}

}  // namespace

void rms_norm(const Launch& launch, const RmsNormArgs& args) {
  dispatch_storage("rms_norm", args.x.dtype, [&](auto type) {
    using T = decltype(type);
    if (args.x.rows == 0) return;
    const bool fits = fits_width(args.x) && fits_width(args.delta) && fits_width(args.sum) &&
                      fits_width(args.y) && is_aligned(args.weight);
    dispatch_width(fits, [&](auto width) {
      rms_norm_forward_kernel<width, T>
          <<<static_cast<unsigned>(args.x.rows), kThreads, 0, stream_of(launch)>>>(args);
      check_launch("rms_norm");
    });
  });
}

void rms_norm_backward(const Launch& launch, const RmsNormBackwardArgs& args) {
  const std::int64_t n = args.x.cols, partials = num_partials(args.x.rows);
  dispatch_storage("rms_norm_backward", args.x.dtype, [&](auto type) {
    using T = decltype(type);
    if (partials == 0) return;
    const bool fits = fits_width(args.x) && fits_width(args.dy) && fits_width(args.dsum) &&
                      fits_width(args.dx) && is_aligned(args.weight) && is_aligned(args.workspace);
    const std::int64_t bytes = n * std::int64_t{sizeof(float)};
    const bool is_shared = bytes <= kMaxSharedBytes;
    dispatch_width(fits, [&](auto width) {
      rms_norm_backward_kernel<width, T>
          <<<static_cast<unsigned>(partials), kThreads, is_shared ? bytes : 0, stream_of(launch)>>>(
              args, rows_of_block(args.x.rows), is_shared);
      check_launch("rms_norm_backward");
    });
  });
  if (n == 0) return;
  rms_norm_backward_dweight_kernel<<<static_cast<unsigned>(ceil_div(n, kWarp)), dim3(kWarp, kWarp),
                                     0, stream_of(launch)>>>(
      static_cast<const float*>(args.workspace), partials, n, static_cast<float>(args.beta),
      static_cast<float*>(args.dweight));
  check_launch("rms_norm_backward");
}

std::int64_t rms_norm_backward_workspace_bytes(const Launch&, const RmsNormBackwardArgs& args) {
  return num_partials(args.x.rows) * args.x.cols * std::int64_t{sizeof(float)};
}

}  // namespace smoe::kernels::cuda
