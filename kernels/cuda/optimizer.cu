// Flat, memory-bound loops. Tables of ranges are passed as kernel arguments, kMaxRanges at a time.
#include "kernels/optimizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/split_weight.h"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kBlock = kThreads * kWidth;  // elements per thread block of adamw

// The factors of the update that all ranges share, computed in double and rounded once.
struct Factors {
  float beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, root_factor, epsilon;

  explicit Factors(const AdamwArgs& args)
      : beta1(static_cast<float>(args.beta1)),
        one_minus_beta1(static_cast<float>(1 - args.beta1)),
        beta2(static_cast<float>(args.beta2)),
        one_minus_beta2(static_cast<float>(1 - args.beta2)),
        step_size(static_cast<float>(args.lr / correction(args.beta1, args.step))),
        root_factor(static_cast<float>(1 / std::sqrt(correction(args.beta2, args.step)))),
        epsilon(static_cast<float>(args.epsilon)) {}

  static double correction(double beta, std::int64_t step) {
    return 1 - std::pow(beta, static_cast<double>(step));
  }
};

constexpr int kMaxRanges = 64;
struct Ranges {
  int count = 0;
  std::int64_t first_block[kMaxRanges];
  std::int64_t weight[kMaxRanges];
  std::int64_t gradient[kMaxRanges];
  std::int64_t moment[kMaxRanges];
  std::int64_t numel[kMaxRanges];
  float keep[kMaxRanges];  // 1 - lr * weight_decay
};

/// Master weights in one piece.
struct WholeMasters {
  float* weights;

  template <int N>
  __device__ void load_masters(std::int64_t weight, std::int64_t, float (&w)[N]) const {
    load(weights + weight, w);
  }
  template <int N>
  __device__ void store_masters(std::int64_t weight, std::int64_t, const float (&w)[N]) const {
    store(weights + weight, w);
  }
};

/// Master weights in two halves.
struct SplitMasters {
  std::uint16_t* weights;
  std::uint16_t* remainders;

  template <int N>
  __device__ void load_masters(std::int64_t weight, std::int64_t moment, float (&w)[N]) const {
    using Access = detail::access_t<std::uint16_t, N>;
    alignas(16) std::uint16_t high[N], low[N];
    *reinterpret_cast<Access*>(high) = *reinterpret_cast<const Access*>(weights + weight);
    *reinterpret_cast<Access*>(low) = *reinterpret_cast<const Access*>(remainders + moment);
#pragma unroll
    for (int j = 0; j < N; ++j) w[j] = __uint_as_float(join_weight(high[j], low[j]));
  }
  template <int N>
  __device__ void store_masters(std::int64_t weight, std::int64_t moment,
                                const float (&w)[N]) const {
    using Access = detail::access_t<std::uint16_t, N>;
    alignas(16) std::uint16_t high[N], low[N];
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const SplitWeight halves = split_weight(__float_as_uint(w[j]));
      high[j] = halves.weight;
      low[j] = halves.remainder;
    }
    *reinterpret_cast<Access*>(weights + weight) = *reinterpret_cast<const Access*>(high);
    *reinterpret_cast<Access*>(remainders + moment) = *reinterpret_cast<const Access*>(low);
  }
};

/// What a launch reads and writes. G stores the gradient, M moments.
template <class Masters, class G, class M>
struct Buffers {
  Masters masters;
  const G* gradient;
  M *m, *v;
  const double* gradient_scale;
};

/// Where an element of each buffer is.
struct Place {
  std::int64_t weight, gradient, moment;
  __device__ Place operator+(std::int64_t i) const {
    return {weight + i, gradient + i, moment + i};
  }
};

template <int N, class Masters, class G, class M>
__device__ void update(const Buffers<Masters, G, M>& buffers, const Factors& f, float scale,
                       float keep, const Place& at) {
  float w[N], g[N], m[N], v[N];
  buffers.masters.load_masters(at.weight, at.moment, w);
  load(buffers.gradient + at.gradient, g);
  load(buffers.m + at.moment, m);
  load(buffers.v + at.moment, v);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    g[j] *= scale;
    m[j] = f.beta1 * m[j] + f.one_minus_beta1 * g[j];
    v[j] = f.beta2 * v[j] + f.one_minus_beta2 * g[j] * g[j];
    w[j] = keep * w[j] - f.step_size * m[j] / (sqrtf(v[j]) * f.root_factor + f.epsilon);
  }
  store(buffers.m + at.moment, m);
  store(buffers.v + at.moment, v);
  buffers.masters.store_masters(at.weight, at.moment, w);
}

template <int N, class Masters, class G, class M>
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(__grid_constant__ const Ranges ranges, Buffers<Masters, G, M> buffers,
                 Factors factors) {
  const double scale = buffers.gradient_scale ? *buffers.gradient_scale : 1.0;
  if (!isfinite(scale)) return;
  int r = 0;
  while (r + 1 < ranges.count && ranges.first_block[r + 1] <= blockIdx.x) ++r;
  const Place first{ranges.weight[r], ranges.gradient[r], ranges.moment[r]};
  const std::int64_t begin = (blockIdx.x - ranges.first_block[r]) * kBlock;
  const std::int64_t numel = ranges.numel[r];
  for (std::int64_t i = begin + threadIdx.x * N; i < min(begin + kBlock, numel);
       i += kThreads * N) {
    if (i + N <= numel) {
      update<N>(buffers, factors, static_cast<float>(scale), ranges.keep[r], first + i);
    } else {
      for (std::int64_t j = i; j < numel; ++j)
        update<1>(buffers, factors, static_cast<float>(scale), ranges.keep[r], first + j);
    }
  }
}

__global__ void __launch_bounds__(kThreads) split_masters_kernel(SplitMastersArgs args) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= args.numel) return;
  const SplitWeight halves = split_weight(__float_as_uint(args.masters[i]));
  static_cast<std::uint16_t*>(args.weights)[i] = halves.weight;
  if (args.remainders) args.remainders[i] = halves.remainder;
}

__global__ void __launch_bounds__(kThreads) join_masters_kernel(JoinMastersArgs args) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= args.numel) return;
  const std::uint16_t remainder = args.remainders ? args.remainders[i] : std::uint16_t{0};
  args.masters[i] =
      __uint_as_float(join_weight(static_cast<const std::uint16_t*>(args.weights)[i], remainder));
}

constexpr std::int64_t kSumBlock = 1 << 14;  // elements per partial sum of squares

struct SquaresRanges {
  int count = 0;
  std::int64_t first_block[kMaxRanges + 1];
  std::int64_t offset[kMaxRanges];
  std::int64_t numel[kMaxRanges];
};

template <int N, class T>
__global__ void __launch_bounds__(kThreads)
    sum_of_squares_kernel(__grid_constant__ const SquaresRanges ranges, const T* x, double* sums) {
  __shared__ double scratch[kThreads / kWarp];
  int r = 0;
  while (r + 1 < ranges.count && ranges.first_block[r + 1] <= blockIdx.x) ++r;
  x += ranges.offset[r];
  const std::int64_t begin = (blockIdx.x - ranges.first_block[r]) * kSumBlock;
  const std::int64_t end = min(begin + kSumBlock, ranges.numel[r]);
  double sum = 0;
#pragma unroll 2
  for (std::int64_t i = begin + threadIdx.x * N; i < end; i += kThreads * N) {
    float values[N] = {};
    if (i + N <= end)
      load(x + i, values);
    else
      for (int j = 0; i + j < end; ++j) values[j] = to_f32(x[i + j]);
#pragma unroll
    for (int j = 0; j < N; ++j) sum += double(values[j]) * double(values[j]);
  }
  sum = reduce_block<kThreads>(sum, Sum{}, scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// One thread block per range.
constexpr int kSumThreads = 1024;
__global__ void __launch_bounds__(kSumThreads)
    sum_of_squares_reduce_kernel(__grid_constant__ const SquaresRanges ranges, const double* sums,
                                 double* results, std::int64_t stride) {
  __shared__ double scratch[kSumThreads / kWarp];
  double sum = 0;
  for (std::int64_t i = ranges.first_block[blockIdx.x] + threadIdx.x;
       i < ranges.first_block[blockIdx.x + 1]; i += kSumThreads)
    sum += sums[i];
  sum = reduce_block<kSumThreads>(sum, Sum{}, scratch);
  if (threadIdx.x == 0) results[blockIdx.x * stride] = sum;
}

// One thread adds; the block only brings the terms closer.
constexpr int kSequentialThreads = 128;
__global__ void __launch_bounds__(kSequentialThreads)
    sequential_sum_kernel(SequentialSumArgs args) {
  __shared__ double terms[kSequentialThreads];
  double sum = 0;
  for (std::int64_t begin = 0; begin < args.numel; begin += kSequentialThreads) {
    const std::int64_t left = args.numel - begin;
    if (threadIdx.x < left) terms[threadIdx.x] = args.x[begin + threadIdx.x];
    __syncthreads();
    if (threadIdx.x == 0)
      for (int i = 0; i < kSequentialThreads && i < left; ++i) sum += terms[i];
    __syncthreads();
  }
  if (threadIdx.x == 0) *args.result = sum;
}

__global__ void __launch_bounds__(kThreads) clip_coefficient_kernel(ClipCoefficientArgs args) {
  const double norm = sqrt(*args.sum_of_squares);
  bool is_finite = isfinite(norm);
  for (std::int64_t i = threadIdx.x; i < args.num_losses; i += kThreads)
    is_finite = is_finite && isfinite(args.losses[i]);
  is_finite = __syncthreads_and(is_finite);
  if (threadIdx.x > 0) return;
  *args.norm = norm;
  if (!is_finite)
    *args.coefficient = nan("");
  else
    *args.coefficient = args.max_norm > 0 && norm > args.max_norm ? args.max_norm / norm : 1.0;
}

__global__ void __launch_bounds__(kThreads) update_selection_bias_kernel(SelectionBiasArgs args) {
  __shared__ std::int64_t scratch[kThreads / kWarp];
  if (args.gradient_scale && !isfinite(*args.gradient_scale)) return;
  const auto load = [&](std::int64_t e) { return static_cast<std::int64_t>(args.load[e]); };
  std::int64_t total = 0;
  for (std::int64_t e = threadIdx.x; e < args.num_experts; e += kThreads) total += load(e);
  total = reduce_block<kThreads>(total, Sum{}, scratch);
  for (std::int64_t e = threadIdx.x; e < args.num_experts; e += kThreads) {
    // Compared with the mean in integers: the bias of a perfectly balanced expert does not change.
    const std::int64_t above_mean = load(e) * args.num_experts - total;
    const int sign = (above_mean < 0) - (above_mean > 0);
    args.bias[e] += static_cast<float>(args.rate * sign);
  }
}

bool offsets_fit(const AdamwRange& range) {
  return range.weight % kWidth == 0 && range.gradient % kWidth == 0 && range.moment % kWidth == 0;
}

/// The table of `ranges`, at most kMaxRanges, and the number of thread blocks that they take.
std::pair<Ranges, std::int64_t> table_of(std::span<const AdamwRange> ranges, double lr) {
  Ranges table;
  std::int64_t num_blocks = 0;
  for (const AdamwRange& range : ranges) {
    const int r = table.count++;
    table.first_block[r] = num_blocks;
    table.weight[r] = range.weight;
    table.gradient[r] = range.gradient;
    table.moment[r] = range.moment;
    table.numel[r] = range.numel;
    table.keep[r] = static_cast<float>(1 - lr * range.weight_decay);
    num_blocks += ceil_div(range.numel, kBlock);
  }
  return {table, num_blocks};
}

template <class G, class M, class Masters>
void launch_adamw(const Launch& launch, const AdamwArgs& args, const Masters& masters) {
  const Buffers<Masters, G, M> buffers{masters, static_cast<const G*>(args.gradient),
                                       static_cast<M*>(args.m), static_cast<M*>(args.v),
                                       args.gradient_scale};
  const Factors factors(args);
  const bool fits = is_aligned(args.weights) && is_aligned(args.remainders) &&
                    is_aligned(args.gradient) && is_aligned(args.m) && is_aligned(args.v) &&
                    std::all_of(args.ranges.begin(), args.ranges.end(), offsets_fit);
  for (std::size_t done = 0; done < args.ranges.size(); done += kMaxRanges) {
    const auto [table, num_blocks] = table_of(
        args.ranges.subspan(done, std::min<std::size_t>(kMaxRanges, args.ranges.size() - done)),
        args.lr);
    if (num_blocks == 0) continue;
    dispatch_width(fits, [&, &table = table, num_blocks = num_blocks](auto width) {
      adamw_kernel<width><<<static_cast<unsigned>(num_blocks), kThreads, 0, stream_of(launch)>>>(
          table, buffers, factors);
      check_launch("adamw");
    });
  }
}

/// For kernels with one thread per element.
unsigned blocks_of(std::int64_t numel) {
  return static_cast<unsigned>(ceil_div(numel, std::int64_t{kThreads}));
}

}  // namespace

void adamw(const Launch& launch, const AdamwArgs& args) {
  SMOE_CHECK(args.dtype == DType::f32, "adamw: dtype must be f32 on a GPU; got ",
             name_of(args.dtype));
  dispatch_storage("adamw", args.gradient_dtype, [&](auto gradient) {
    dispatch_storage("adamw", args.moment_dtype, [&](auto moment) {
      using G = decltype(gradient);
      using M = decltype(moment);
      if (args.remainders)
        launch_adamw<G, M>(
            launch, args, SplitMasters{static_cast<std::uint16_t*>(args.weights), args.remainders});
      else
        launch_adamw<G, M>(launch, args, WholeMasters{static_cast<float*>(args.weights)});
    });
  });
}

void split_masters(const Launch& launch, const SplitMastersArgs& args) {
  if (args.numel == 0) return;
  split_masters_kernel<<<blocks_of(args.numel), kThreads, 0, stream_of(launch)>>>(args);
  check_launch("split_masters");
}

void join_masters(const Launch& launch, const JoinMastersArgs& args) {
  if (args.numel == 0) return;
  join_masters_kernel<<<blocks_of(args.numel), kThreads, 0, stream_of(launch)>>>(args);
  check_launch("join_masters");
}

std::int64_t sum_of_squares_workspace_bytes(const Launch&, const SumOfSquaresArgs& args) {
  std::int64_t num_blocks = 0;
  for (const ElementRange& range : args.ranges) num_blocks += ceil_div(range.numel, kSumBlock);
  return num_blocks * std::int64_t{sizeof(double)};
}

void sum_of_squares(const Launch& launch, const SumOfSquaresArgs& args) {
  bool fits = is_aligned(args.x);
  for (const ElementRange& range : args.ranges) fits = fits && range.offset % kWidth == 0;
  auto* sums = static_cast<double*>(args.workspace);
  for (std::size_t done = 0; done < args.ranges.size(); done += kMaxRanges) {
    SquaresRanges ranges;
    std::int64_t num_blocks = 0;
    for (const ElementRange& range :
         args.ranges.subspan(done, std::min<std::size_t>(kMaxRanges, args.ranges.size() - done))) {
      ranges.first_block[ranges.count] = num_blocks;
      ranges.offset[ranges.count] = range.offset;
      ranges.numel[ranges.count] = range.numel;
      num_blocks += ceil_div(range.numel, kSumBlock);
      ranges.first_block[++ranges.count] = num_blocks;
    }
    if (num_blocks > 0)
      dispatch_storage("sum_of_squares", args.dtype, [&](auto type) {
        dispatch_width(fits, [&](auto width) {
          sum_of_squares_kernel<width>
              <<<static_cast<unsigned>(num_blocks), kThreads, 0, stream_of(launch)>>>(
                  ranges, static_cast<const decltype(type)*>(args.x), sums);
          check_launch("sum_of_squares");
        });
      });
    sum_of_squares_reduce_kernel<<<ranges.count, kSumThreads, 0, stream_of(launch)>>>(
        ranges, sums, args.results + static_cast<std::int64_t>(done) * args.stride, args.stride);
    check_launch("sum_of_squares");
    sums += num_blocks;
  }
}

void sequential_sum(const Launch& launch, const SequentialSumArgs& args) {
  sequential_sum_kernel<<<1, kSequentialThreads, 0, stream_of(launch)>>>(args);
  check_launch("sequential_sum");
}

void clip_coefficient(const Launch& launch, const ClipCoefficientArgs& args) {
  clip_coefficient_kernel<<<1, kThreads, 0, stream_of(launch)>>>(args);
  check_launch("clip_coefficient");
}

void update_selection_bias(const Launch& launch, const SelectionBiasArgs& args) {
  update_selection_bias_kernel<<<1, kThreads, 0, stream_of(launch)>>>(args);
  check_launch("update_selection_bias");
}

}  // namespace smoe::kernels::cuda
