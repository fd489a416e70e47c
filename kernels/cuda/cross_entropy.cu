// A thread block keeps a row of logits in registers: maximum, then sum of exponentials, then
// gradient; meanwhile its next rows arrive in shared memory. A longer row is read twice: the first
// pass keeps a running maximum and sum of exponentials per thread and reduces them over the block
// (online softmax, arXiv:1805.02867); the second reads the row from cache and writes the gradient.
#include "kernels/cross_entropy.h"

#include <cuda_pipeline.h>

#include "kernels/cuda/device/checked_index.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launch_following.cuh"

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

// exp(x) to 2^-22 where it is normal, otherwise 0: two instructions, with which the kernels are
// bound by memory.
__device__ float fast_exp(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x * 1.44269504f));
  return result;
}

// With bf16 storage the result is rounded to 8 bits, so the fast version suffices.
template <class T>
__device__ float exponential(float x) {
  return sizeof(T) == 2 ? fast_exp(x) : expf(x);
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

// For bf16 rows of at most kRowThreads * kWidth * kRowChunks logits. A thread has chunks of kWidth
// columns, kRowStep apart.
constexpr int kRowThreads = 1024;
constexpr int kRowChunks = 4;
constexpr int kRowStep = kRowThreads * kWidth;
constexpr std::int64_t kMaxRow = std::int64_t{kRowStep} * kRowChunks;

// The maximum of kWidth packed logits; propagates NaN.
__device__ float maximum_of(const uint4& packed) {
  const auto* const pairs = reinterpret_cast<const __nv_bfloat162*>(&packed);
  const __nv_bfloat162 both =
      __hmax2_nan(__hmax2_nan(pairs[0], pairs[1]), __hmax2_nan(pairs[2], pairs[3]));
  return to_f32(__hmax_nan(both.x, both.y));
}

// A row's chunks of one thread in registers; those of the next kRowsAhead rows arrive in shared
// memory. Each thread reads only what it has copied itself, so no barrier is needed.
template <int kRowsAhead>
class RowChunks {
 public:
  using Slots = uint4[kRowsAhead][kRowChunks][kRowThreads];

  // Starts to copy the block's first rows, which are gridDim.x apart.
  __device__ RowChunks(const Matrix& logits, Slots& slots) : logits_(logits), slots_(slots) {
    const auto num_columns = static_cast<int>(logits.cols) - int(threadIdx.x) * kWidth;
    num_chunks_ = max(0, (num_columns + kRowStep - 1) / kRowStep);
    for (int i = 0; i < kRowsAhead; ++i) {
#pragma unroll
      for (int c = 0; c < kRowChunks; ++c) copy(static_cast<int>(blockIdx.x + i * gridDim.x), i, c);
    }
  }

  // Waits for row `row` and reads it; the row kRowsAhead later is copied to its place.
  __device__ void read(int row) {
#pragma unroll
    for (int c = 0; c < kRowChunks; ++c) {
      __pipeline_wait_prior(kRowsAhead * kRowChunks - 1);
      if (c < num_chunks_) chunks_[c] = slots_[front_][c][threadIdx.x];
      copy(row + kRowsAhead * static_cast<int>(gridDim.x), front_, c);
    }
    front_ = front_ + 1 == kRowsAhead ? 0 : front_ + 1;
  }

  // Calls f with each chunk of the row as packed logits, and its index.
  template <class F>
  __device__ void for_each(const F& f) const {
#pragma unroll
    for (int c = 0; c < kRowChunks; ++c)
      if (c < num_chunks_) f(chunks_[c], c);
  }

 private:
  __device__ void copy(int row, int slot, int c) {
    if (c < num_chunks_ && row < logits_.rows)
      __pipeline_memcpy_async(
          &slots_[slot][c][threadIdx.x],
          row_of<__nv_bfloat16>(logits_, row) + c * kRowStep + threadIdx.x * kWidth, sizeof(uint4));
    __pipeline_commit();
  }

  const Matrix& logits_;
  Slots& slots_;
  uint4 chunks_[kRowChunks];
  int front_ = 0, num_chunks_;
};

template <int kRowsAhead>
__global__ void __launch_bounds__(kRowThreads, 1)
    cross_entropy_kernel(const __grid_constant__ CrossEntropyArgs args) {
  follow_preceding_kernel();
  using T = __nv_bfloat16;
  constexpr int N = kWidth;
  extern __shared__ uint4 shared[];
  __shared__ float scratch[kRowThreads / kWarp];
  using Rows = RowChunks<kRowsAhead>;
  Rows rows(args.logits, *reinterpret_cast<typename Rows::Slots*>(shared));
  const auto num_rows = static_cast<int>(args.logits.rows), step = static_cast<int>(gridDim.x);
  const float scale = static_cast<float>(args.scale);
  // Of the next row, read one ahead.
  std::int32_t next_target = args.targets[blockIdx.x];
  float next_at_target = -INFINITY;
  const auto read_at_target = [&](int t) {
    if (next_target >= 0)
      next_at_target =
          to_f32(row_of<T>(args.logits, t)[checked_index(next_target, args.logits.cols)]);
  };
  read_at_target(blockIdx.x);
  for (auto t = static_cast<int>(blockIdx.x); t < num_rows; t += step) {
    const std::int32_t target = next_target;
    const float at_target = next_at_target;
    const bool is_last = t + step >= num_rows;
    if (!is_last) next_target = args.targets[t + step];
    if (!is_last) read_at_target(t + step);
    rows.read(t);
    if (target < 0) {
      write_ignored<N, T>(args, t);
      continue;
    }
    float maximum = -INFINITY;
    rows.for_each([&](uint4 x, int) { maximum = Maximum{}(maximum, maximum_of(x)); });
    maximum = reduce_block<kRowThreads>(maximum, Maximum{}, scratch);
    float sum = 0;
    rows.for_each([&](uint4 packed, int) {
      float x[N];
      load(reinterpret_cast<const T*>(&packed), x);
#pragma unroll
      for (int i = 0; i < N; ++i) sum += fast_exp(x[i] - maximum);
    });
    const float log_sum = logf(reduce_block<kRowThreads>(sum, Sum{}, scratch));
    if (threadIdx.x == 0) static_cast<float*>(args.losses)[t] = log_sum + (maximum - at_target);
    if (!args.write_gradient) continue;
    const float logsumexp = maximum + log_sum;
    T* const row = row_of<T>(args.logits, t) + threadIdx.x * N;
    rows.for_each([&](uint4 packed, int c) {
      float x[N];
      load(reinterpret_cast<const T*>(&packed), x);
#pragma unroll
      for (int i = 0; i < N; ++i) x[i] = scale * fast_exp(x[i] - logsumexp);
      store(row + c * kRowStep, x);
    });
    // The thread that wrote the target's column corrects it.
    if (target / N % kRowThreads == threadIdx.x)
      row_of<T>(args.logits, t)[target] = from_f32<T>(scale * expm1f(at_target - logsumexp));
  }
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

template <int kRowsAhead>
void launch_rows(const Launch& launch, const CrossEntropyArgs& args, std::int64_t blocks) {
  constexpr int kBytes = sizeof(typename RowChunks<kRowsAhead>::Slots);
  constexpr auto* kKernel = cross_entropy_kernel<kRowsAhead>;
  CUDA_CHECK(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
  launch_following<kKernel>(launch, {static_cast<unsigned>(blocks), kRowThreads, kBytes}, args);
}

// Two rows ahead, unless a block has at most two rows or 128 KiB of shared memory are too much.
void launch_rows(const Launch& launch, const CrossEntropyArgs& args) {
  const std::int64_t resident = attribute(launch, cudaDevAttrMultiProcessorCount);
  const std::int64_t blocks = std::min(resident, args.logits.rows);
  const bool fits = attribute(launch, cudaDevAttrMaxSharedMemoryPerBlockOptin) >=
                    int{sizeof(RowChunks<2>::Slots)};
  if (fits && args.logits.rows > 2 * blocks)
    launch_rows<2>(launch, args, blocks);
  else
    launch_rows<1>(launch, args, blocks);
}

}  // namespace

void cross_entropy(const Launch& launch, const CrossEntropyArgs& args) {
  dispatch_storage("cross_entropy", args.logits.dtype, [&](auto type) {
    using T = decltype(type);
    if (args.logits.rows == 0) return;
    const auto blocks = static_cast<unsigned>(args.logits.rows);
    const bool fits = fits_width(args.logits);
    constexpr std::int64_t kMaxRows = std::int64_t{1} << 30;
    if (sizeof(T) == 2 && fits && args.logits.cols <= kMaxRow && args.logits.rows <= kMaxRows)
      launch_rows(launch, args);
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
