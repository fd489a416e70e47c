// One thread block per row of logits, which it keeps in registers: maximum, then sum of
// exponentials, then gradient. A longer row is read twice: the first pass keeps a running maximum
// and sum of exponentials per thread and reduces them over the block (online softmax,
// arXiv:1805.02867); the second reads the row from cache and writes the gradient.
#include "kernels/cross_entropy.h"

#include "kernels/cuda/device/checked_index.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {
namespace {

constexpr int kThreads = 512;

// sum = sum of exp(x - maximum) over some logits of a row.
struct Exponentials {
  float maximum;
  float sum;
};

// If both are empty the maximum is -infinity, which must not be subtracted from itself.
struct Merge {
  __device__ static float shrink(float from, float to) {
    return from == to ? 1.0f : expf(from - to);
  }
  __device__ Exponentials operator()(Exponentials a, Exponentials b) const {
    const float maximum = Maximum{}(a.maximum, b.maximum);
    return {maximum, a.sum * shrink(a.maximum, maximum) + b.sum * shrink(b.maximum, maximum)};
  }
};

__device__ Exponentials merge_warp(Exponentials x) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const Exponentials other{__shfl_xor_sync(0xffffffffu, x.maximum, distance),
                             __shfl_xor_sync(0xffffffffu, x.sum, distance)};
    x = Merge{}(x, other);
  }
  return x;
}

// With bf16 storage the result is rounded to 8 bits, so the fast version suffices.
template <class T>
__device__ float exponential(float x) {
  return sizeof(T) == 2 ? __expf(x) : expf(x);
}

template <int N, class T>
__device__ Exponentials reduce_row(const T* row, std::int64_t n) {
  __shared__ Exponentials scratch[kThreads / kWarp];
  Exponentials all{-INFINITY, 0};
  for (std::int64_t j = threadIdx.x * N; j < n; j += kThreads * N) {
    float x[N];
    load(row + j, x);
    float maximum = x[0];
#pragma unroll
    for (int i = 1; i < N; ++i) maximum = Maximum{}(maximum, x[i]);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) sum += exponential<T>(x[i] - maximum);
    all = Merge{}(all, {maximum, sum});
  }
  all = merge_warp(all);
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = all;
  __syncthreads();
  all = scratch[0];
  for (int warp = 1; warp < kThreads / kWarp; ++warp) all = Merge{}(all, scratch[warp]);
  return all;
}

// Writes what a row without a target is given.
template <int N, class T>
__device__ void write_ignored(const CrossEntropyArgs& args, std::int64_t t) {
  if (threadIdx.x == 0) static_cast<float*>(args.losses)[t] = 0;
  T* row = row_of<T>(args.logits, t);
  for (std::int64_t j = threadIdx.x * N; args.write_gradient && j < args.logits.cols;
       j += blockDim.x * N)
    store<N>(row + j, {});
}

template <int N, class T>
__global__ void __launch_bounds__(kThreads) cross_entropy_long_kernel(CrossEntropyArgs args) {
  const std::int64_t t = blockIdx.x, n = args.logits.cols;
  T* row = row_of<T>(args.logits, t);
  float* losses = static_cast<float*>(args.losses);
  const std::int32_t target = args.targets[t];
  if (target < 0) return write_ignored<N, T>(args, t);
  const float at_target = to_f32(
      row[checked_index(target, n)]);  // every thread reads it before the barrier in reduce_row
  const Exponentials all = reduce_row<N>(row, n);
  const float log_sum = logf(all.sum);
  if (threadIdx.x == 0) losses[t] = log_sum + (all.maximum - at_target);
  if (!args.write_gradient) return;
  const float logsumexp = all.maximum + log_sum, scale = static_cast<float>(args.scale);
  for (std::int64_t j = threadIdx.x * N; j < n; j += kThreads * N) {
    float x[N];
    load(row + j, x);
#pragma unroll
    for (int i = 0; i < N; ++i)
      x[i] =
          scale * (j + i == target ? expm1f(x[i] - logsumexp) : exponential<T>(x[i] - logsumexp));
    store(row + j, x);
  }
}

// For bf16 rows of at most kRowThreads * kWidth * kRowChunks logits.
constexpr int kRowThreads = 1024;
constexpr int kRowChunks = 4;
constexpr std::int64_t kMaxRow = std::int64_t{kRowThreads} * kWidth * kRowChunks;

// Unpacks N logits. The compiler cannot tell that later calls unpack the same, so it keeps them
// packed between passes, which halves the registers of a row.
template <int N>
__device__ void unpack(uint4& packed, float (&x)[N]) {
  asm volatile("" : "+r"(packed.x), "+r"(packed.y), "+r"(packed.z), "+r"(packed.w));
  load(reinterpret_cast<const __nv_bfloat16*>(&packed), x);
}

__global__ void __launch_bounds__(kRowThreads) cross_entropy_kernel(CrossEntropyArgs args) {
  using T = __nv_bfloat16;
  constexpr int N = kWidth, kStep = kRowThreads * N;
  __shared__ float scratch[kRowThreads / kWarp];
  const std::int64_t t = blockIdx.x;
  const std::int32_t target = args.targets[t];
  if (target < 0) return write_ignored<N, T>(args, t);
  const int first = threadIdx.x * N;                         // this thread's columns: first and on,
  const int n = static_cast<int>(args.logits.cols) - first;  // kStep apart; n of the row are left
  T* const row = row_of<T>(args.logits, t) + first;
  uint4 chunks[kRowChunks];  // N logits each; none is -infinity
#pragma unroll
  for (int c = 0; c < kRowChunks; ++c)
    chunks[c] = c * kStep < n ? *reinterpret_cast<const uint4*>(row + c * kStep)
                              : uint4{0xff80ff80u, 0xff80ff80u, 0xff80ff80u, 0xff80ff80u};
  const float at_target = to_f32(row[checked_index(target, args.logits.cols) - first]);
  float maximum = -INFINITY;
#pragma unroll
  for (int c = 0; c < kRowChunks; ++c) {
    float x[N];
    unpack(chunks[c], x);
#pragma unroll
    for (int i = 0; i < N; ++i) maximum = Maximum{}(maximum, x[i]);
  }
  maximum = reduce_block<kRowThreads>(maximum, Maximum{}, scratch);
  float sum = 0;
#pragma unroll
  for (int c = 0; c < kRowChunks; ++c) {
    float x[N];
    unpack(chunks[c], x);
#pragma unroll
    for (int i = 0; i < N; ++i) sum += __expf(x[i] - maximum);
  }
  // Every thread has read the target's logit before this barrier.
  const float log_sum = logf(reduce_block<kRowThreads>(sum, Sum{}, scratch));
  if (threadIdx.x == 0) static_cast<float*>(args.losses)[t] = log_sum + (maximum - at_target);
  if (!args.write_gradient) return;
  const float logsumexp = maximum + log_sum, scale = static_cast<float>(args.scale);
#pragma unroll
  for (int c = 0; c < kRowChunks; ++c) {
    if (c * kStep >= n) break;
    float x[N];
    unpack(chunks[c], x);
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = scale * __expf(x[i] - logsumexp);
    store(row + c * kStep, x);
  }
  // The thread that wrote the target's column corrects it.
  if (target / N % kRowThreads == threadIdx.x)
    row[target - first] = from_f32<T>(scale * expm1f(at_target - logsumexp));
}

// Thread i accumulates losses i, i + kSumThreads, ...; a block reduction adds the partial sums.
constexpr int kSumThreads = 1024;
__global__ void __launch_bounds__(kSumThreads) sum_losses_kernel(SumLossesArgs args) {
  __shared__ double scratch[kSumThreads / kWarp];
  const float* losses = static_cast<const float*>(args.losses);
  double sum = 0;
  for (std::int64_t t = threadIdx.x; t < args.numel; t += kSumThreads) sum += double(losses[t]);
  sum = reduce_block<kSumThreads>(sum, Sum{}, scratch);
  if (threadIdx.x == 0) *static_cast<float*>(args.total) = static_cast<float>(args.scale * sum);
}

}  // namespace

void cross_entropy(const Launch& launch, const CrossEntropyArgs& args) {
  dispatch_storage("cross_entropy", args.logits.dtype, [&](auto type) {
    using T = decltype(type);
    if (args.logits.rows == 0) return;
    const auto blocks = static_cast<unsigned>(args.logits.rows);
    const bool fits = fits_width(args.logits);
    if (sizeof(T) == 2 && fits && args.logits.cols <= kMaxRow)
      cross_entropy_kernel<<<blocks, kRowThreads, 0, stream_of(launch)>>>(args);
    else
      dispatch_width(fits, [&](auto width) {
        cross_entropy_long_kernel<width, T><<<blocks, kThreads, 0, stream_of(launch)>>>(args);
      });
    check_launch("cross_entropy");
  });
}

void sum_losses(const Launch& launch, const SumLossesArgs& args) {
  SMOE_CHECK(args.dtype == DType::f32, "sum_losses: dtype must be f32 on a GPU; got ",
             name_of(args.dtype));
  sum_losses_kernel<<<1, kSumThreads, 0, stream_of(launch)>>>(args);
  check_launch("sum_losses");
}

}  // namespace smoe::kernels::cuda
