// With r = inverse_rms and g = dy * weight, dx = r (g - x r^2 mean(g x)) and dweight = sum over
// rows of dy x r. A thread block takes several rows, at a time one per kRowWarps warps.
#include "kernels/cuda/norm_by_warps.h"

#include "kernels/cuda/device/operand_queue.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {
namespace {

constexpr int kThreads = 128;

// Sums over the warps of a row in a fixed order. `sums` may be reused after the next call.
template <int kRowWarps>
__device__ float reduce_row(float x, float (&sums)[kRowWarps]) {
  x = reduce_warp(x, Sum{});
  if constexpr (kRowWarps > 1) {
    const int warp = threadIdx.x / kWarp % kRowWarps;
    if (threadIdx.x % kWarp == 0) sums[warp] = x;
    __syncthreads();
    x = sums[0];
#pragma unroll
    for (int other = 1; other < kRowWarps; ++other) x += sums[other];
  }
  return x;
}

// For rows of at most kRowWarps * 32 * kWidth * kChunks elements: everything is read once. kExperts
// is 0 without dlogits, otherwise the largest number of them.
template <int kRowWarps, int kChunks, int kExperts, class T>
__global__ void __launch_bounds__(kThreads, 4)
    rms_norm_backward_kernel(const __grid_constant__ RmsNormBackwardArgs args,
                             std::int64_t rows_of_block) {
  constexpr int N = kWidth, kRowThreads = kRowWarps * kWarp;
  constexpr int kGroups = kThreads / kRowThreads;  // each has a row at a time
  constexpr int kChunkStep = kRowThreads * N, kColumns = kChunkStep * kChunks;
  using Operands = OperandQueue<kThreads, kChunks, T>;
  union Shared {
    typename Operands::Slots slots;
    float partials[kGroups][kColumns];
  };
  __shared__ Shared shared;
  __shared__ float scratch[2][kGroups][kRowWarps];  // for even and odd rows
  const GradientParts& parts = args.dy;
  const std::int64_t n = args.x.cols;
  const int group = threadIdx.x / kRowThreads, column = threadIdx.x % kRowThreads * N;
  const std::int64_t begin = blockIdx.x * rows_of_block;
  const std::int64_t end = min(begin + rows_of_block, static_cast<std::int64_t>(args.x.rows));
  Operands operands(parts, args.x, args.dsum, shared.slots, {begin + group, end, kGroups}, column,
                    kChunkStep);
  const float* const weight = static_cast<const float*>(args.weight) + column;
  const int num_experts = kExperts > 0 ? static_cast<int>(parts.weight.rows) : 0;
  const int num_dense =
      static_cast<int>(parts.rows.data ? parts.top_k : 0) + (parts.dense.data ? 1 : 0);
  float partial[kChunks][N] = {};
  float next_r = 0, next_dlogit = 0;  // of the next row; lane e has that of expert e
  const auto read_factors = [&](std::int64_t t) {
    if (t >= end) return;
    next_r = static_cast<const float*>(args.inverse_rms)[t];
    const int lane = threadIdx.x % kWarp;
    if (lane < num_experts) next_dlogit = row_of<float>(parts.dlogits, t)[lane];
  };
  read_factors(begin + group);
  for (std::int64_t first = begin; first < end; first += kGroups) {
    const std::int64_t t = first + group;
    const bool is_row = t < end;  // the same for all threads of a warp
    const float r = next_r;
    float g[kChunks][N] = {}, dot = 0;
    if (is_row) {
#pragma unroll 1
      for (int k = 0; k < num_dense; ++k) {
        operands.wait();
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
          float part[N];
          operands.read(c, part);
#pragma unroll
          for (int i = 0; i < N; ++i) g[c][i] += part[i];
        }
        operands.pop();
      }
      float dlogits[std::max(kExperts, 1)];
#pragma unroll
      for (int e = 0; e < kExperts; ++e) dlogits[e] = __shfl_sync(~0u, next_dlogit, e);
      read_factors(t + kGroups);
      operands.wait();
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        if (!operands.has_chunk(c)) continue;
        if constexpr (kExperts > 0) {
          float sum[N] = {};
#pragma unroll
          for (int e = 0; e < kExperts; ++e) {
            if (e >= num_experts) break;
            float router[N];
            load(row_of<float>(parts.weight, e) + column + c * kChunkStep, router);
#pragma unroll
            for (int i = 0; i < N; ++i) sum[i] = fmaf(dlogits[e], router[i], sum[i]);
          }
#pragma unroll
          for (int i = 0; i < N; ++i) g[c][i] += sum[i];
        }
        float x[N], w[N];
        operands.read(c, x);
        load(weight + c * kChunkStep, w);
#pragma unroll
        for (int i = 0; i < N; ++i) {
          partial[c][i] += g[c][i] * x[i] * r;
          g[c][i] *= w[i];
          dot += g[c][i] * x[i];
        }
      }
    }
    dot = reduce_row<kRowWarps>(dot, scratch[(first - begin) / kGroups % 2][group]);
    if (!is_row) continue;
    const float shrink = r * r * dot / static_cast<float>(n);
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      float x[N];
      operands.read(c, x);
#pragma unroll
      for (int i = 0; i < N; ++i) g[c][i] = r * (g[c][i] - x[i] * shrink);
    }
    operands.pop();
    if (args.dsum.data) {
      operands.wait();
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        float residual[N];
        operands.read(c, residual);
#pragma unroll
        for (int i = 0; i < N; ++i) g[c][i] += residual[i];
      }
      operands.pop();
    }
#pragma unroll
    for (int c = 0; c < kChunks; ++c)
      if (operands.has_chunk(c)) store(row_of<T>(args.dx, t) + column + c * kChunkStep, g[c]);
  }
  __syncthreads();  // all slots have been read
#pragma unroll
  for (int c = 0; c < kChunks; ++c)
    store(&shared.partials[group][column + c * kChunkStep], partial[c]);
  __syncthreads();
  float* const result = static_cast<float*>(args.workspace) + blockIdx.x * n;
  for (std::int64_t j = threadIdx.x; j < n; j += kThreads) {
    float sum = shared.partials[0][j];
#pragma unroll
    for (int other = 1; other < kGroups; ++other) sum += shared.partials[other][j];
    result[j] = sum;
  }
}

// Calls f with the warps per row and the chunks per thread as compile-time constants; false if a
// row of n elements has too many.
template <class F>
bool dispatch_row(std::int64_t n, F&& f) {
  constexpr std::integral_constant<int, 1> one;
  constexpr std::integral_constant<int, 2> two;
  constexpr std::integral_constant<int, 4> four;
  constexpr std::int64_t kWarpChunk = kWarp * kWidth;
  if (n <= kWarpChunk)
    f(one, one);
  else if (n <= 2 * kWarpChunk)
    f(one, two);
  else if (n <= 4 * kWarpChunk)
    f(one, four);
  else if (n <= 8 * kWarpChunk)
    f(two, four);
  else if (n <= 16 * kWarpChunk)
    f(four, four);
  else
    return false;
  return true;
}

}  // namespace

bool rms_norm_backward_by_warps(const Launch& launch, const RmsNormBackwardArgs& args) {
  const GradientParts& dy = args.dy;
  const bool fits = fits_width(args.x) && fits_width(dy.dense) && fits_width(dy.rows) &&
                    fits_width(dy.weight) && fits_width(args.dsum) && fits_width(args.dx) &&
                    is_aligned(args.weight);
  const bool has_dlogits = dy.dlogits.data;
  if (!fits || (has_dlogits && dy.weight.rows > kMaxPartExperts)) return false;
  return dispatch_storage("rms_norm_backward", args.x.dtype, [&](auto type) {
    return dispatch_row(args.x.cols, [&](auto warps, auto chunks) {
      const RowBlocks blocks = norm_blocks(args.x.rows);
      const auto run = [&](auto num_experts) {
        rms_norm_backward_kernel<warps, chunks, num_experts, decltype(type)>
            <<<static_cast<unsigned>(blocks.count), kThreads, 0, stream_of(launch)>>>(args,
                                                                                      blocks.rows);
        check_launch("rms_norm_backward");
      };
      if (has_dlogits)
        run(std::integral_constant<int, int{kMaxPartExperts}>{});
      else
        run(std::integral_constant<int, 0>{});
    });
  });
}

}  // namespace smoe::kernels::cuda
