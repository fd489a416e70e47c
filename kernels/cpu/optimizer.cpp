// Flat, memory-bound loops, split into blocks of a fixed size.
#include "kernels/optimizer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "core/base/split_weight.h"
#include "kernels/ceil_div.h"
#include "kernels/cpu/threads.h"

namespace smoe::kernels::cpu {
namespace {

constexpr std::int64_t kBlock = 1 << 14;

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

/// Rounded to nearest even if it is stored as bf16.
template <class T>
void store(T value, T& target) {
  target = value;
}
inline void store(float value, bf16& target) {
  target.bits = bf16(value).bits;  // as bits, so that GCC vectorizes
}

/// Master weights in one piece.
template <class T>
struct WholeMasters {
  T* weights;
  T load(std::int64_t i) const { return weights[i]; }
  void store(std::int64_t i, T value) const { weights[i] = value; }
};

/// Master weights in two halves.
struct SplitMasters {
  std::uint16_t* weights;
  std::uint16_t* remainders;
  float load(std::int64_t i) const {
    return std::bit_cast<float>(join_weight(weights[i], remainders[i]));
  }
  void store(std::int64_t i, float value) const {
    const SplitWeight halves = split_weight(std::bit_cast<std::uint32_t>(value));
    weights[i] = halves.weight;
    remainders[i] = halves.remainder;
  }
};

/// Elements [begin, end) of a range. T computes, G stores the gradient, M moments.
template <class T, class G, class M, class Masters>
void adamw_block(const AdamwArgs& args, const AdamwFactors<T>& f, const AdamwRange& range,
                 const Masters& masters, std::int64_t begin, std::int64_t end) {
  const G* const gradient = static_cast<const G*>(args.gradient) + range.gradient;
  M* const m = static_cast<M*>(args.m) + range.moment;
  M* const v = static_cast<M*>(args.v) + range.moment;
#pragma omp simd
  for (std::int64_t i = begin; i < end; ++i) {
    const T g = f.scale * T(gradient[i]);
    const T new_m = f.beta1 * T(m[i]) + f.one_minus_beta1 * g;
    const T new_v = f.beta2 * T(v[i]) + f.one_minus_beta2 * g * g;
    masters.store(i, f.keep * masters.load(i) -
                         f.step_size * new_m / (std::sqrt(new_v) * f.root_factor + f.epsilon));
    store(new_m, m[i]);
    store(new_v, v[i]);
  }
}

/// Calls f(T{}, G{}, M{}) for the dtypes of the arithmetic, of the gradient and of the moments.
template <class F>
void dispatch_adamw(const AdamwArgs& args, F&& f) {
  const bool is_split = args.remainders != nullptr;
  const auto fits = [&](DType stored) {
    return stored == args.dtype || (stored == DType::bf16 && args.dtype == DType::f32);
  };
  const bool dtype_fits = args.dtype == DType::f32 || (args.dtype == DType::f64 && !is_split);
  SMOE_CHECK(dtype_fits && fits(args.gradient_dtype) && fits(args.moment_dtype),
             "adamw: dtype must be f32, with gradient and moments in f32 or bf16, or f64 unsplit; ",
             "got ", name_of(args.dtype), is_split ? " split" : "", ", gradient in ",
             name_of(args.gradient_dtype), ", moments in ", name_of(args.moment_dtype));
  if (args.dtype == DType::f64) return f(double{}, double{}, double{});
  const auto with_moments = [&](auto gradient) {
    args.moment_dtype == DType::f32 ? f(float{}, gradient, float{}) : f(float{}, gradient, bf16{});
  };
  args.gradient_dtype == DType::f32 ? with_moments(float{}) : with_moments(bf16{});
}

/// Calls update(range, begin, end) for the elements [begin, end) of each range whose moments are
/// among [first, last).
template <class F>
void for_each_intersection(std::span<const AdamwRange> ranges, std::int64_t first,
                           std::int64_t last, F&& update) {
  auto range = std::partition_point(ranges.begin(), ranges.end(), [&](const AdamwRange& r) {
    return r.moment + r.numel <= first;
  });
  for (; range != ranges.end() && range->moment < last; ++range)
    update(*range, std::max(first - range->moment, std::int64_t{0}),
           std::min(last - range->moment, range->numel));
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
  const std::int64_t size = args.ranges.back().moment + args.ranges.back().numel;
  dispatch_adamw(args, [&](auto type, auto gradient, auto moment) {
    using T = decltype(type);
    using G = decltype(gradient);
    using M = decltype(moment);
    const auto update = [&](const AdamwRange& range, std::int64_t begin, std::int64_t end) {
      const AdamwFactors<T> factors(args, scale, range.weight_decay);
      if constexpr (std::is_same_v<T, float>)
        if (args.remainders)
          return adamw_block<T, G, M>(
              args, factors, range,
              SplitMasters{static_cast<std::uint16_t*>(args.weights) + range.weight,
                           args.remainders + range.moment},
              begin, end);
      adamw_block<T, G, M>(args, factors, range,
                           WholeMasters<T>{static_cast<T*>(args.weights) + range.weight}, begin,
                           end);
    };
    parallel_blocks(size, kBlock, [&](std::int64_t begin, std::int64_t end, int) {
      for_each_intersection(args.ranges, begin, end, update);
    });
  });
}

void split_masters(const Launch&, const SplitMastersArgs& args) {
  auto* const weights = static_cast<std::uint16_t*>(args.weights);
  parallel_blocks(args.numel, kBlock, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const SplitWeight halves = split_weight(std::bit_cast<std::uint32_t>(args.masters[i]));
      weights[i] = halves.weight;
      if (args.remainders) args.remainders[i] = halves.remainder;
    }
  });
}

void join_masters(const Launch&, const JoinMastersArgs& args) {
  const auto* const weights = static_cast<const std::uint16_t*>(args.weights);
  parallel_blocks(args.numel, kBlock, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i)
      args.masters[i] = std::bit_cast<float>(
          join_weight(weights[i], args.remainders ? args.remainders[i] : std::uint16_t{0}));
  });
}

std::int64_t sum_of_squares_workspace_bytes(const Launch&, const SumOfSquaresArgs& args) {
  std::int64_t largest = 0;
  for (const ElementRange& range : args.ranges) largest = std::max(largest, range.numel);
  return ceil_div(largest, kBlock) * std::int64_t{sizeof(double)};
}

void sum_of_squares(const Launch&, const SumOfSquaresArgs& args) {
  double* const sums = static_cast<double*>(args.workspace);
  dispatch_floating(args.dtype, [&](auto type) {
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
