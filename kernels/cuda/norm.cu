// RMSNorm: one thread block per row, which reads it once from memory and again from cache. With
// r = inverse_rms and g = dy * weight, dx = r (g - x r^2 mean(g x)) and dweight = sum over rows of
// dy x r. The backward of a gradient in parts keeps a row in registers if it fits.
#include "kernels/norm.h"

#include "kernels/cuda/device/checked_index.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {
namespace {

constexpr int kThreads = 128;

// sum += columns [j, j + N) of token t's rows, in the order of its slots.
template <int N, class T>
__device__ void add_rows(const ConstMatrix& rows, const std::int32_t* grouped_rows,
                         std::int64_t top_k, std::int64_t t, std::int64_t j, float (&sum)[N]) {
#pragma unroll 2
  for (std::int64_t k = 0; k < top_k; ++k) {
    const std::int64_t row = checked_index(grouped_rows[t * top_k + k], rows.rows);
    float y[N];
    load(row_of<T>(rows, row) + j, y);
#pragma unroll
    for (int i = 0; i < N; ++i) sum[i] += y[i];
  }
}

// Columns [j, j + N) of what is added to the residual of row t, rounded.
template <int N, bool kHasRows, class T>
__device__ void load_delta(const RmsNormArgs& args, std::int64_t t, std::int64_t j,
                           float (&delta)[N]) {
  if constexpr (!kHasRows) {
    load(row_of<T>(args.delta, t) + j, delta);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) delta[i] = 0;
    add_rows<N, T>(args.delta, args.grouped_rows, args.top_k, t, j, delta);
#pragma unroll
    for (int i = 0; i < N; ++i) delta[i] = to_f32(from_f32<T>(delta[i]));
  }
}

template <int N, bool kHasRows, class T>
__global__ void __launch_bounds__(kThreads) rms_norm_forward_kernel(RmsNormArgs args) {
  __shared__ float scratch[kThreads / kWarp];
  const std::int64_t row = blockIdx.x, n = args.x.cols;
  const T* x = row_of<T>(args.x, row);
  float squares = 0;
  if (args.delta.data) {
    T* sum = row_of<T>(args.sum, row);
    for (std::int64_t j = threadIdx.x * N; j < n; j += kThreads * N) {
      float a[N], b[N];
      load(x + j, a);
      load_delta<N, kHasRows, T>(args, row, j, b);
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

// Columns [j, j + N) of row t of the gradient: the parts without dlogits, then all.
template <int N, class T>
__device__ void load_dense(const GradientParts& parts, std::int64_t t, std::int64_t j,
                           float (&dy)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) dy[i] = 0;
  if (parts.rows.data) add_rows<N, T>(parts.rows, parts.grouped_rows, parts.top_k, t, j, dy);
  if (parts.dense.data) {
    float y[N];
    load(row_of<T>(parts.dense, t) + j, y);
#pragma unroll
    for (int i = 0; i < N; ++i) dy[i] += y[i];
  }
}

template <int N, class T>
__device__ void load_parts(const GradientParts& parts, std::int64_t t, std::int64_t j,
                           float (&dy)[N]) {
  load_dense<N, T>(parts, t, j, dy);
  if (!parts.dlogits.data) return;
  float sum[N] = {};
  for (std::int64_t e = 0; e < parts.weight.rows; ++e) {
    const float dlogit = row_of<float>(parts.dlogits, t)[e];
    const float* const weight = row_of<float>(parts.weight, e) + j;
#pragma unroll
    for (int i = 0; i < N; ++i) sum[i] = fmaf(dlogit, weight[i], sum[i]);
  }
#pragma unroll
  for (int i = 0; i < N; ++i) dy[i] += sum[i];
}

template <int N, bool kHasParts, class T>
__device__ void load_gradient(const GradientParts& parts, std::int64_t t, std::int64_t j,
                              float (&dy)[N]) {
  if constexpr (kHasParts)
    load_parts<N, T>(parts, t, j, dy);
  else
    load(row_of<T>(parts.dense, t) + j, dy);
}

// A partial dweight is accumulated in shared memory if it fits, else in global memory.
constexpr std::int64_t kMaxSharedBytes = 48 << 10;

// For rows of any length: reads them twice, the second time from cache.
template <int N, bool kHasParts, class T>
__global__ void __launch_bounds__(kThreads)
    rms_norm_backward_long_kernel(RmsNormBackwardArgs args, std::int64_t rows_of_block,
                                  bool is_shared) {
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
    const float inverse_rms = static_cast<const float*>(args.inverse_rms)[row];
    float dot = 0;
    for (std::int64_t j = threadIdx.x * N; j < n; j += kThreads * N) {
      float a[N], g[N], w[N];
      load(x + j, a);
      load_gradient<N, kHasParts, T>(args.dy, row, j, g);
      load(weight + j, w);
#pragma unroll
      for (int i = 0; i < N; ++i) dot += g[i] * w[i] * a[i];
    }
    dot = reduce_block<kThreads>(dot, Sum{}, scratch);
    const float shrink = inverse_rms * inverse_rms * dot / static_cast<float>(n);
    for (std::int64_t j = threadIdx.x * N; j < n; j += kThreads * N) {
      float a[N], g[N], w[N], sum[N], residual[N] = {};
      load(x + j, a);
      load_gradient<N, kHasParts, T>(args.dy, row, j, g);
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

// Sums of R values over the thread block in a fixed order; every thread gets them.
template <int kBlockThreads, int R>
__device__ void reduce_rows(float (&x)[R], float (&scratch)[R][kBlockThreads / kWarp]) {
#pragma unroll
  for (int r = 0; r < R; ++r) x[r] = reduce_warp(x[r], Sum{});
  if (threadIdx.x % kWarp == 0)
#pragma unroll
    for (int r = 0; r < R; ++r) scratch[r][threadIdx.x / kWarp] = x[r];
  __syncthreads();
#pragma unroll
  for (int r = 0; r < R; ++r) {
    x[r] = scratch[r][0];
#pragma unroll
    for (int warp = 1; warp < kBlockThreads / kWarp; ++warp) x[r] += scratch[r][warp];
  }
  __syncthreads();
}

// For gradients in parts and rows of at most kBlockThreads * kWidth elements, each thread with
// kWidth columns: everything is read once, R rows at a time. kExperts rows of the router's weight
// are kept in registers.
template <int kBlockThreads, int kExperts, int R, class T>
__global__ void __launch_bounds__(kBlockThreads,
                                  (kExperts > 0 && R > 1 ? 384 : 512) / kBlockThreads)
    rms_norm_backward_kernel(RmsNormBackwardArgs args, std::int64_t rows_of_block) {
  constexpr int N = kWidth;
  __shared__ float scratch[R][kBlockThreads / kWarp];
  const std::int64_t n = args.x.cols, j = threadIdx.x * N;
  const bool is_active = j < n;
  const GradientParts& parts = args.dy;
  float w[N] = {}, partial[N] = {};
  float router[kExperts > 0 ? kExperts : 1][N] = {};
  if (is_active) {
    load(static_cast<const float*>(args.weight) + j, w);
#pragma unroll
    for (int e = 0; e < kExperts; ++e)
      if (e < parts.weight.rows) load(row_of<float>(parts.weight, e) + j, router[e]);
  }
  const std::int64_t begin = blockIdx.x * rows_of_block;
  const std::int64_t end = min(begin + rows_of_block, static_cast<std::int64_t>(args.x.rows));
  for (std::int64_t row = begin; row < end; row += R) {
    float a[R][N], g[R][N], residual[R][N] = {}, dot[R] = {}, inverse_rms[R];
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const std::int64_t t = row + r;
      if (t >= end) continue;
      inverse_rms[r] = static_cast<const float*>(args.inverse_rms)[t];
      if (!is_active) continue;
      load(row_of<T>(args.x, t) + j, a[r]);
      if (args.dsum.data) load(row_of<T>(args.dsum, t) + j, residual[r]);
      load_dense<N, T>(parts, t, j, g[r]);
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const std::int64_t t = row + r;
      if (t >= end || !is_active) continue;
      if constexpr (kExperts > 0) {
        float sum[N] = {};
#pragma unroll
        for (int e = 0; e < kExperts; ++e) {
          const float dlogit =
              e < parts.weight.rows ? __ldg(row_of<float>(parts.dlogits, t) + e) : 0.0f;
#pragma unroll
          for (int i = 0; i < N; ++i) sum[i] = fmaf(dlogit, router[e][i], sum[i]);
        }
#pragma unroll
        for (int i = 0; i < N; ++i) g[r][i] += sum[i];
      }
#pragma unroll
      for (int i = 0; i < N; ++i) dot[r] += g[r][i] * w[i] * a[r][i];
    }
    reduce_rows<kBlockThreads>(dot, scratch);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const std::int64_t t = row + r;
      if (t >= end || !is_active) continue;
      const float shrink = inverse_rms[r] * inverse_rms[r] * dot[r] / static_cast<float>(n);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        partial[i] += g[r][i] * a[r][i] * inverse_rms[r];
        a[r][i] = residual[r][i] + inverse_rms[r] * (g[r][i] * w[i] - a[r][i] * shrink);
      }
      store(row_of<T>(args.dx, t) + j, a[r]);
    }
  }
  if (is_active) store(static_cast<float*>(args.workspace) + blockIdx.x * n + j, partial);
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
    const auto blocks = static_cast<unsigned>(args.x.rows);
    dispatch_width(fits, [&](auto width) {
      if (args.grouped_rows)
        rms_norm_forward_kernel<width, true, T><<<blocks, kThreads, 0, stream_of(launch)>>>(args);
      else
        rms_norm_forward_kernel<width, false, T><<<blocks, kThreads, 0, stream_of(launch)>>>(args);
      check_launch("rms_norm");
    });
  });
}

namespace {

// Calls f with the threads per block as a compile-time constant; false if a row of n elements does
// not fit into registers.
template <class F>
bool dispatch_threads(std::int64_t n, F&& f) {
  if (n <= 64 * kWidth)
    f(std::integral_constant<int, 64>{});
  else if (n <= 128 * kWidth)
    f(std::integral_constant<int, 128>{});
  else if (n <= 256 * kWidth)
    f(std::integral_constant<int, 256>{});
  else if (n <= 512 * kWidth)
    f(std::integral_constant<int, 512>{});
  else
    return false;
  return true;
}

template <class T>
bool launch_in_registers(const Launch& launch, const RmsNormBackwardArgs& args, bool fits) {
  const bool has_dlogits = args.dy.dlogits.data, has_rows = args.dy.rows.data;
  if (!fits || (!has_dlogits && !has_rows) ||
      (has_dlogits && args.dy.weight.rows > kMaxPartExperts))
    return false;
  const auto blocks = static_cast<unsigned>(num_partials(args.x.rows));
  return dispatch_threads(args.x.cols, [&](auto threads) {
    const auto rows = rows_of_block(args.x.rows);
    if (has_dlogits)
      rms_norm_backward_kernel<threads, int{kMaxPartExperts}, 1, T>
          <<<blocks, threads.value, 0, stream_of(launch)>>>(args, rows);
    else
      rms_norm_backward_kernel<threads, 0, 2, T>
          <<<blocks, threads.value, 0, stream_of(launch)>>>(args, rows);
  });
}

}  // namespace

void rms_norm_backward(const Launch& launch, const RmsNormBackwardArgs& args) {
  const std::int64_t n = args.x.cols, partials = num_partials(args.x.rows);
  dispatch_storage("rms_norm_backward", args.x.dtype, [&](auto type) {
    using T = decltype(type);
    if (partials == 0) return;
    const GradientParts& dy = args.dy;
    const bool fits = fits_width(args.x) && fits_width(dy.dense) && fits_width(dy.rows) &&
                      fits_width(dy.weight) && fits_width(args.dsum) && fits_width(args.dx) &&
                      is_aligned(args.weight) && is_aligned(args.workspace);
    const std::int64_t bytes = n * std::int64_t{sizeof(float)};
    const bool is_shared = bytes <= kMaxSharedBytes;
    if (!launch_in_registers<T>(launch, args, fits))
      dispatch_width(fits, [&](auto width) {
        const auto run = [&](auto has_parts) {
          rms_norm_backward_long_kernel<width, has_parts, T>
              <<<static_cast<unsigned>(partials), kThreads, is_shared ? bytes : 0,
                 stream_of(launch)>>>(args, rows_of_block(args.x.rows), is_shared);
        };
        if (dy.rows.data || dy.dlogits.data)
          run(std::true_type{});
        else
          run(std::false_type{});
      });
    check_launch("rms_norm_backward");
  });
  if (n == 0 || !args.dweight) return;
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
