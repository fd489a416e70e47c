// Cases of kernels/optimizer.h on the current stream.
#pragma once
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <string>
#include <vector>

#include "autograd/ops/run_kernel.h"
#include "kernels/optimizer.h"
#include "tests/support/compare.h"
#include "tests/support/tensors.h"

namespace smoe::test {

/// Ranges at the same place in all buffers: {offset, numel, weight_decay}.
struct FlatRange {
  std::int64_t offset, numel;
  double weight_decay;
};
inline std::vector<kernels::AdamwRange> adamw_ranges(const std::vector<FlatRange>& flat) {
  std::vector<kernels::AdamwRange> ranges;
  for (const auto& [offset, numel, decay] : flat)
    ranges.push_back({offset, offset, offset, numel, decay});
  return ranges;
}

/// The flat buffers that AdamW reads and writes.
struct AdamwBuffers {
  Tensor weights, remainders, gradient, m, v;  // remainders may be undefined

  kernels::AdamwArgs args(std::span<const kernels::AdamwRange> ranges) const {
    return {.weights = weights.data(),
            .remainders = remainders.defined() ? remainders.data_as<std::uint16_t>() : nullptr,
            .gradient = gradient.data(),
            .m = m.data(),
            .v = v.data(),
            .dtype = weights.dtype() == DType::f64 ? DType::f64 : DType::f32,
            .gradient_dtype = gradient.dtype(),
            .moment_dtype = m.dtype(),
            .ranges = ranges,
            .lr = 0.01,
            .beta1 = 0.9,
            .beta2 = 0.95,
            .epsilon = 1e-8,
            .step = 1,
            .gradient_scale = nullptr};
  }
};

struct SplitMasters {
  Tensor weights;     // bf16
  Tensor remainders;  // u16
};

/// f32 `masters` in halves.
inline SplitMasters run_split_masters(const Tensor& masters) {
  SplitMasters halves{Tensor::empty(masters.shape(), DType::bf16),
                      Tensor::empty(masters.shape(), DType::u16)};
  kernels::split_masters(launch(), {.masters = masters.data_as<float>(),
                                    .weights = halves.weights.data(),
                                    .remainders = halves.remainders.data_as<std::uint16_t>(),
                                    .numel = masters.numel()});
  return halves;
}

/// The f32 masters of `weights` and `remainders`, which may be undefined.
inline Tensor run_join_masters(const Tensor& weights, const Tensor& remainders) {
  const Tensor masters = Tensor::empty(weights.shape(), DType::f32);
  kernels::join_masters(
      launch(), {.weights = weights.data(),
                 .remainders = remainders.defined() ? remainders.data_as<std::uint16_t>() : nullptr,
                 .masters = masters.data_as<float>(),
                 .numel = weights.numel()});
  return masters;
}

/// f32 numbers with every pattern of the lower 16 bits, after upper halves of both signs: of zero,
/// subnormal numbers, the smallest and largest normal ones, one, infinity and NaNs.
inline Tensor masters_with_all_remainders() {
  std::vector<float> masters;
  for (const std::uint32_t sign : {0u, 0x8000u})
    for (const std::uint32_t upper : {0u, 1u, 0x7fu, 0x80u, 0x3f80u, 0x4049u, 0x7f7fu, 0x7f80u})
      for (std::uint32_t lower = 0; lower < 0x10000u; ++lower)
        masters.push_back(std::bit_cast<float>((sign | upper) << 16 | lower));
  return Tensor::from(masters, {static_cast<std::int64_t>(masters.size())});
}

/// A step whose gradient overflowed writes nothing.
inline void check_overflowed_step(bool is_split, DType gradient_dtype, DType moment_dtype) {
  const std::int64_t size = 3000;
  const auto buffers = [&] {
    AdamwBuffers a{.weights = random_normal("weights", {size}, DType::f32),
                   .remainders = {},
                   .gradient = random_normal("gradient", {size}, gradient_dtype),
                   .m = random_normal("m", {size}, moment_dtype),
                   .v = Tensor::zeros({size}, moment_dtype)};
    if (is_split) {
      const SplitMasters halves = run_split_masters(a.weights);
      a.weights = halves.weights;
      a.remainders = halves.remainders;
    }
    return a;
  };
  const auto ranges = adamw_ranges({{0, size, 0.1}});
  for (const double scale : {double(NAN), HUGE_VAL, -HUGE_VAL}) {
    const AdamwBuffers a = buffers(), untouched = buffers();
    const Tensor gradient_scale = tensor_of({scale}, {1}, DType::f64);
    kernels::AdamwArgs args = a.args(ranges);
    args.gradient_scale = gradient_scale.data_as<double>();
    kernels::adamw(launch(), args);
    check_same_bits("weights", a.weights, untouched.weights);
    if (is_split) check_same_bits("remainders", a.remainders, untouched.remainders);
    check_same_bits("m", a.m, untouched.m);
    check_same_bits("v", a.v, untouched.v);
  }
}

struct MastersAndMoments {
  Tensor masters, m, v;
};

/// The masters and moments after `steps` steps that hold the masters in one piece or in halves.
inline MastersAndMoments train_masters(bool is_split, DType gradient_dtype, DType moment_dtype,
                                       std::int64_t size, int steps) {
  const Tensor initial = random_normal("masters", {size}, DType::f32);
  AdamwBuffers a{.weights = initial.clone(Category::parameters),
                 .remainders = {},
                 .gradient = {},
                 .m = Tensor::zeros({size}, moment_dtype),
                 .v = Tensor::zeros({size}, moment_dtype)};
  if (is_split) {
    const SplitMasters halves = run_split_masters(initial);
    a.weights = halves.weights;
    a.remainders = halves.remainders;
  }
  const auto ranges = adamw_ranges({{0, size / 2, 0.1}, {size / 2, size - size / 2, 0}});
  for (int t = 1; t <= steps; ++t) {
    a.gradient = random_normal("gradient" + std::to_string(t), {size}, gradient_dtype);
    kernels::AdamwArgs args = a.args(ranges);
    args.step = t;
    kernels::adamw(launch(), args);
  }
  return {is_split ? run_join_masters(a.weights, a.remainders) : a.weights, a.m, a.v};
}

/// Of each range of x: f64 [ranges].
inline Tensor run_sum_of_squares(const Tensor& x, std::span<const kernels::ElementRange> ranges) {
  const auto count = static_cast<std::int64_t>(ranges.size());
  const Tensor sums = Tensor::empty({count}, DType::f64);
  run_kernel(
      kernels::sum_of_squares, kernels::sum_of_squares_workspace_bytes,
      {.x = x.data(), .dtype = x.dtype(), .ranges = ranges, .results = sums.data_as<double>()});
  return sums;
}

/// f64 [1].
inline Tensor run_sum_of_squares(const Tensor& x) {
  const kernels::ElementRange all{0, x.numel()};
  return run_sum_of_squares(x, {&all, 1});
}

/// The sum of `terms`, f64, one after the other: f64 [1].
inline Tensor run_sequential_sum(const Tensor& terms) {
  const Tensor result = Tensor::empty({1}, DType::f64);
  kernels::sequential_sum(
      launch(),
      {.x = terms.data_as<double>(), .numel = terms.numel(), .result = result.data_as<double>()});
  return result;
}

struct ClippedNorm {
  Tensor norm, coefficient;  // f64 [1]
};

inline ClippedNorm run_clip_coefficient(const Tensor& sum_of_squares, double max_norm,
                                        const Tensor& losses = {}) {
  const ClippedNorm result{Tensor::empty({1}, DType::f64), Tensor::empty({1}, DType::f64)};
  kernels::clip_coefficient(launch(),
                            {.sum_of_squares = sum_of_squares.data_as<double>(),
                             .max_norm = max_norm,
                             .losses = losses.defined() ? losses.data_as<double>() : nullptr,
                             .num_losses = losses.defined() ? losses.numel() : 0,
                             .norm = result.norm.data_as<double>(),
                             .coefficient = result.coefficient.data_as<double>()});
  return result;
}

/// A norm that is not finite makes the coefficient NaN, clipped or not.
inline void check_clipping_of_nonfinite_norms() {
  for (const double bad : {double(NAN), HUGE_VAL})
    for (const double max_norm : {0.0, 1.0}) {
      const ClippedNorm clipped = run_clip_coefficient(tensor_of({bad}, {1}, DType::f64), max_norm);
      CHECK(!std::isfinite(clipped.norm.item()));
      CHECK(std::isnan(clipped.coefficient.item()));
    }
}

/// A loss that is not finite makes the coefficient NaN, wherever it is.
inline void check_nonfinite_losses() {
  const auto coefficient = [](const std::vector<double>& losses) {
    const auto size = static_cast<std::int64_t>(losses.size());
    return run_clip_coefficient(tensor_of({25}, {1}, DType::f64), 1,
                                tensor_of(losses, {size}, DType::f64))
        .coefficient.item();
  };
  CHECK(coefficient({}) == 0.2);
  for (const int size : {3, 700}) {
    std::vector<double> losses(size, -1);
    CHECK(coefficient(losses) == 0.2);
    for (const double bad : {double(NAN), HUGE_VAL, -HUGE_VAL})
      for (const int at : {0, size / 2, size - 1}) {
        losses[at] = bad;
        CHECK(std::isnan(coefficient(losses)));
        losses[at] = -1;
      }
  }
}

/// Updates `bias` [E] from `load` f64 [E].
inline void run_update_selection_bias(const Tensor& bias, const Tensor& load, double rate) {
  kernels::update_selection_bias(launch(), {.bias = bias.data_as<float>(),
                                            .load = load.data_as<double>(),
                                            .num_experts = load.numel(),
                                            .rate = rate});
}

}  // namespace smoe::test
