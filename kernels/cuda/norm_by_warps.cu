// With r = inverse_rms and g = dy * weight, dx = r (g - x r^2 mean(g x)) and dweight = sum over
// rows of dy x r. A thread block takes several rows, at a time one per kRowWarps warps.
#include "kernels/cuda/norm_by_warps.h"

#include "kernels/cuda/device/operand_queue.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launch_following.cuh"
#include "kernels/cuda/norm_operands.h"

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

// The router's weight in shared memory, as [expert, chunk, half of the chunk, thread, 4], so that
// the threads of a warp read consecutive addresses.
template <int kRowThreads, int kChunks>
class RouterWeight {
  static constexpr int kHalf = kWidth / 2;

 public:
  static constexpr int kColumns = kRowThreads * kWidth * kChunks;

  __device__ explicit RouterWeight(float* shared) : shared_(shared) {}

  // By all threads of a block; a barrier must follow.
  __device__ void fill(const ConstMatrix& weight) {
    const int size = static_cast<int>(weight.rows) * kColumns;
    for (int i = threadIdx.x * kHalf; i < size; i += blockDim.x * kHalf) {
      const int expert = i / kColumns, column = i % kColumns;
      if (column >= weight.cols) continue;
      float x[kHalf];
      load(row_of<float>(weight, expert) + column, x);
      const int thread = column / kWidth % kRowThreads;
      store(at(expert, column / kWidth / kRowThreads, column / kHalf % 2, thread), x);
    }
  }

  __device__ void read(int expert, int chunk, float (&x)[kWidth]) const {
    const int thread = threadIdx.x % kRowThreads;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float part[kHalf];
      load(at(expert, chunk, half, thread), part);
#pragma unroll
      for (int i = 0; i < kHalf; ++i) x[half * kHalf + i] = part[i];
    }
  }

 private:
  __device__ float* at(int expert, int chunk, int half, int thread) const {
    return shared_ + (((expert * kChunks + chunk) * 2 + half) * kRowThreads + thread) * kHalf;
  }

  float* shared_;
};

// What the kernel below has in shared memory, besides the router's weight.
template <int kRowWarps, int kChunks, int kExperts, class T>
struct BackwardShared {
  static constexpr int kRowThreads = kRowWarps * kWarp, kColumns = kRowThreads * kWidth * kChunks;
  static constexpr int kGroups = kThreads / kRowThreads;  // each has a row at a time
  // With the router's weight of 1024 columns, four blocks fit into an SM.
  using Operands = OperandQueue<kThreads, kChunks, (kExperts > 0 ? 24 : 40) << 10, T>;

  union {
    typename Operands::Slots slots;
    float partials[kGroups][kColumns];
  };
};

// For rows of at most kRowWarps * 32 * kWidth * kChunks elements: everything is read once. kExperts
// is 0 without dlogits, otherwise the largest number of them.
template <int kRowWarps, int kChunks, int kExperts, class T>
__global__ void __launch_bounds__(kThreads, 4)
    rms_norm_backward_kernel(const __grid_constant__ RmsNormBackwardArgs args,
                             std::int64_t rows_of_block) {
  follow_preceding_kernel();
  using Shared = BackwardShared<kRowWarps, kChunks, kExperts, T>;
  constexpr int N = kWidth, kRowThreads = Shared::kRowThreads, kGroups = Shared::kGroups;
  constexpr int kChunkStep = kRowThreads * N;
  extern __shared__ uint4 memory[];
  auto& shared = *reinterpret_cast<Shared*>(memory);
  __shared__ float scratch[2][kGroups][kRowWarps];  // for even and odd rows
  const GradientParts& parts = args.dy;
  const std::int64_t n = args.x.cols;
  const int group = threadIdx.x / kRowThreads, column = threadIdx.x % kRowThreads * N;
  const std::int64_t begin = blockIdx.x * rows_of_block;
  const std::int64_t end = min(begin + rows_of_block, static_cast<std::int64_t>(args.x.rows));
  typename Shared::Operands operands(parts, args.x, args.dsum, shared.slots,
                                     {begin + group, end, kGroups}, column, kChunkStep);
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
  RouterWeight<kRowThreads, kChunks> router(reinterpret_cast<float*>(&shared + 1));
  if constexpr (kExperts > 0) {
    router.fill(parts.weight);
    __syncthreads();
  }
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
            float w[N];
            router.read(e, c, w);
#pragma unroll
            for (int i = 0; i < N; ++i) sum[i] = fmaf(dlogits[e], w[i], sum[i]);
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

// Calls f with the warps per row and the chunks per thread as compile-time constants, unless a row
// of n elements has too many.
template <class F>
void dispatch_row(std::int64_t n, F&& f) {
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
}

// False if a block needs more shared memory than the device has.
template <int kRowWarps, int kChunks, int kExperts, class T>
bool launch_backward(const Launch& launch, const RmsNormBackwardArgs& args) {
  using Shared = BackwardShared<kRowWarps, kChunks, kExperts, T>;
  constexpr auto kKernel = rms_norm_backward_kernel<kRowWarps, kChunks, kExperts, T>;
  const std::int64_t num_experts = kExperts > 0 ? args.dy.weight.rows : 0;
  const auto bytes =
      static_cast<int>(sizeof(Shared) + num_experts * Shared::kColumns * sizeof(float));
  if (bytes > attribute(launch, cudaDevAttrMaxSharedMemoryPerBlockOptin)) return false;
  CUDA_CHECK(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  const RowBlocks blocks = norm_blocks(args.x.rows);
  launch_following<kKernel>(
      launch, {static_cast<unsigned>(blocks.count), kThreads, static_cast<std::size_t>(bytes)},
      args, blocks.rows);
  return true;
}

}  // namespace

bool rms_norm_backward_by_warps(const Launch& launch, const RmsNormBackwardArgs& args) {
  const GradientParts& dy = args.dy;
  const bool has_dlogits = dy.dlogits.data;
  if (!fits_width(args) || (has_dlogits && dy.weight.rows > kMaxPartExperts)) return false;
  return dispatch_storage("rms_norm_backward", args.x.dtype, [&](auto type) {
    bool is_launched = false;
    dispatch_row(args.x.cols, [&](auto warps, auto chunks) {
      using T = decltype(type);
      constexpr int kMaxExperts = kMaxPartExperts;
      is_launched = has_dlogits ? launch_backward<warps, chunks, kMaxExperts, T>(launch, args)
                                : launch_backward<warps, chunks, 0, T>(launch, args);
    });
    return is_launched;
  });
}

}  // namespace smoe::kernels::cuda
