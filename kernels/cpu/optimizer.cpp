// Flat, memory-bound loops, split into blocks of a fixed size.
#include "kernels/optimizer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/ceil_div.h"
#include "kernels/cpu/thread_pool.h"

namespace smoe::kernels::cpu {
namespace {

constexpr std::int64_t kBlock = 1 << 14;

template <class F>
void dispatch_master(const char* op, DType dtype, F&& f) {
  SMOE_CHECK(dtype == DType::f32 || dtype == DType::f64, op, ": dtype must be f32 or f64; got ",
             name_of(dtype));
  dtype == DType::f32 ? f(float{}) : f(double{});
}

/// The formula's factors, combined in double and rounded once.
template <class T>
struct AdamwFactors {
  T scale, keep, beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, root_factor, epsilon;

  AdamwFactors(const AdamwArgs& args, double gradient_scale, double weight_decay)
      : scale(T(gradient_scale)),
        keep(T(1 - args.lr * weight_decay)),
        beta1(T(args.beta1)),
        one_minus_beta1(T(1 - args.beta1)),
        beta2(T(args.beta2)),
        one_minus_beta2(T(1 - args.beta2)),
        step_size(T(args.lr / correction(args.beta1, args.step))),
        root_factor(T(1 / std::sqrt(correction(args.beta2, args.step)))),
        epsilon(T(args.epsilon)) {}

  static double correction(double beta, std::int64_t step) {
    return 1 - std::pow(beta, static_cast<double>(step));
  }
};

template <class T, bool kHasCompute>
void adamw_block(const AdamwArgs& args, const AdamwFactors<T>& f, std::int64_t begin,
                 std::int64_t end) {
  T* w = static_cast<T*>(args.master);
  const T* gradient = static_cast<const T*>(args.gradient);
  T* m = static_cast<T*>(args.m);
  T* v = static_cast<T*>(args.v);
  bf16* compute = static_cast<bf16*>(args.compute_bf16);
#pragma omp simd
  for (std::int64_t i = begin; i < end; ++i) {
    const T g = f.scale * gradient[i];
    const T new_m = f.beta1 * m[i] + f.one_minus_beta1 * g;
    const T new_v = f.beta2 * v[i] + f.one_minus_beta2 * g * g;
    const T new_w =
        f.keep * w[i] - f.step_size * new_m / (std::sqrt(new_v) * f.root_factor + f.epsilon);
    m[i] = new_m;
    v[i] = new_v;
    w[i] = new_w;
    if constexpr (kHasCompute)
      compute[i].bits = bf16(new_w).bits;  // as bits, so that GCC vectorizes
  }
}

/// Calls update(begin, end, weight_decay) for the intersection of [begin, end) with each range.
template <class F>
void for_each_intersection(std::span<const AdamwRange> ranges, std::int64_t begin, std::int64_t end,
                           F&& update) {
  auto range = std::partition_point(ranges.begin(), ranges.end(), [&](const AdamwRange& r) {
    return r.offset + r.numel <= begin;
  });
  for (; range != ranges.end() && range->offset < end; ++range)
    update(std::max(begin, range->offset), std::min(end, range->offset + range->numel),
           range->weight_decay);
}

template <class T>
double block_sum_of_squares(const T* x, std::int64_t begin, std::int64_t end) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = begin; i < end; ++i)
    sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

}  // namespace

void adamw(const Launch&, const AdamwArgs& args) {
  const double scale = args.gradient_scale ? *args.gradient_scale : 1.0;
  if (!std::isfinite(scale) || args.ranges.empty()) return;
  const std::int64_t size = args.ranges.back().offset + args.ranges.back().numel;
  dispatch_master("adamw", args.dtype, [&](auto type) {
    using T = decltype(type);
    parallel_blocks(size, kBlock, [&](std::int64_t begin, std::int64_t end, int) {
      for_each_intersection(args.ranges, begin, end,
                            [&](std::int64_t first, std::int64_t last, double weight_decay) {
                              const AdamwFactors<T> factors(args, scale, weight_decay);
                              if (args.compute_bf16)
                                adamw_block<T, true>(args, factors, first, last);
                              else
                                adamw_block<T, false>(args, factors, first, last);
                            });
    });
  });
}

std::int64_t sum_of_squares_workspace_bytes(const Launch&, const SumOfSquaresArgs& args) {
  std::int64_t largest = 0;
  for (const ElementRange& range : args.ranges) largest = std::max(largest, range.numel);
  return ceil_div(largest, kBlock) * std::int64_t{sizeof(double)};
}

void sum_of_squares(const Launch&, const SumOfSquaresArgs& args) {
  double* const sums = static_cast<double*>(args.workspace);
  dispatch_master("sum_of_squares", args.dtype, [&](auto type) {
    using T = decltype(type);
    for (std::size_t i = 0; i < args.ranges.size(); ++i) {
      const T* x = static_cast<const T*>(args.x) + args.ranges[i].offset;
      const std::int64_t numel = args.ranges[i].numel;
      parallel_blocks(numel, kBlock, [=](std::int64_t begin, std::int64_t end, int) {
        sums[begin / kBlock] = block_sum_of_squares(x, begin, end);
      });
      double total = 0;
      for (std::int64_t block = 0; block * kBlock < numel; ++block) total += sums[block];
      args.results[static_cast<std::int64_t>(i) * args.stride] = total;
    }
  });
}

void sequential_sum(const Launch&, const SequentialSumArgs& args) {
  double sum = 0;
  for (std::int64_t i = 0; i < args.numel; ++i) sum += args.x[i];
  *args.result = sum;
}

void clip_coefficient(const Launch&, const ClipCoefficientArgs& args) {
  const double norm = std::sqrt(*args.sum_of_squares);
  *args.norm = norm;
  const bool is_finite =
      std::isfinite(norm) && std::all_of(args.losses, args.losses + args.num_losses,
                                         [](double loss) { return std::isfinite(loss); });
  if (!is_finite)
    *args.coefficient = std::numeric_limits<double>::quiet_NaN();
  else
    *args.coefficient = args.max_norm > 0 && norm > args.max_norm ? args.max_norm / norm : 1.0;
}

void update_selection_bias(const Launch&, const SelectionBiasArgs& args) {
  if (args.gradient_scale && !std::isfinite(*args.gradient_scale)) return;
  const auto load = [&](std::int64_t e) { return static_cast<std::int64_t>(args.load[e]); };
  std::int64_t total = 0;
  for (std::int64_t e = 0; e < args.num_experts; ++e) total += load(e);
  for (std::int64_t e = 0; e < args.num_experts; ++e) {
    // Compared with the mean in integers: the bias of a perfectly balanced expert does not change.
    const std::int64_t above_mean = load(e) * args.num_experts - total;
    const int sign = (above_mean < 0) - (above_mean > 0);
    args.bias[e] += static_cast<float>(args.rate * sign);
  }
}

}  // namespace smoe::kernels::cpu
