// RMSNorm. With r = inverse_rms and g = dy * weight, dx = r (g - x r^2 mean(g x)) and dweight = sum
// over rows of dy x r. What norm_by_columns.h and norm_by_warps.h do not take has one thread block
// per row, which reads it once from memory and again from cache.
#include "kernels/norm.h"

#include "kernels/cuda/device/checked_index.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launch_following.cuh"
#include "kernels/cuda/norm_by_columns.h"
#include "kernels/cuda/norm_by_warps.h"
#include "kernels/cuda/norm_operands.h"
#include "kernels/cuda/partial_rows.h"

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
  follow_preceding_kernel();
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

}  // namespace

void rms_norm(const Launch& launch, const RmsNormArgs& args) {
  if (args.x.rows == 0 || rms_norm_by_columns(launch, args)) return;
  dispatch_storage("rms_norm", args.x.dtype, [&](auto type) {
    using T = decltype(type);
    const auto blocks = static_cast<unsigned>(args.x.rows);
    dispatch_width(fits_width(args), [&](auto width) {
      if (args.grouped_rows)
        launch_following<rms_norm_forward_kernel<width, true, T>>(launch, {blocks, kThreads}, args);
      else
        launch_following<rms_norm_forward_kernel<width, false, T>>(launch, {blocks, kThreads},
                                                                   args);
    });
  });
}

namespace {

void rms_norm_backward_by_blocks(const Launch& launch, const RmsNormBackwardArgs& args) {
  dispatch_storage("rms_norm_backward", args.x.dtype, [&](auto type) {
    const GradientParts& dy = args.dy;
    const bool fits = fits_width(args) && is_aligned(args.workspace);
    const std::int64_t bytes = args.x.cols * std::int64_t{sizeof(float)};
    const bool is_shared = bytes <= kMaxSharedBytes;
    const RowBlocks blocks = norm_blocks(args.x.rows);
    dispatch_width(fits, [&](auto width) {
      const auto run = [&](auto has_parts) {
        rms_norm_backward_long_kernel<width, has_parts, decltype(type)>
            <<<static_cast<unsigned>(blocks.count), kThreads, is_shared ? bytes : 0,
               stream_of(launch)>>>(args, blocks.rows, is_shared);
      };
      if (dy.rows.data || dy.dlogits.data)
        run(std::true_type{});
      else
        run(std::false_type{});
    });
    check_launch("rms_norm_backward");
  });
}

}  // namespace

void rms_norm_backward(const Launch& launch, const RmsNormBackwardArgs& args) {
  if (args.x.rows > 0 && !rms_norm_backward_by_columns(launch, args) &&
      !rms_norm_backward_by_warps(launch, args))
    rms_norm_backward_by_blocks(launch, args);
  if (args.dweight)
    add_partial_rows(launch, static_cast<const float*>(args.workspace),
                     norm_blocks(args.x.rows).count, args.x.cols, args.beta, args.dweight,
                     args.dweight_dtype);
}

std::int64_t rms_norm_backward_workspace_bytes(const Launch&, const RmsNormBackwardArgs& args) {
  return norm_blocks(args.x.rows).count * args.x.cols * std::int64_t{sizeof(float)};
}

}  // namespace smoe::kernels::cuda
