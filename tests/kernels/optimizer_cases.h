// Cases of kernels/optimizer.h on the current stream.
#pragma once
#include "autograd/ops/run_kernel.h"
#include "kernels/optimizer.h"
#include "tests/support/tensors.h"

namespace smoe::test {

/// The flat buffers that AdamW reads and writes.
struct AdamwBuffers {
  Tensor weights, gradient, m, v, compute;

  kernels::AdamwArgs args(std::span<const kernels::AdamwRange> ranges) const {
    return {.master = weights.data(),
            .gradient = gradient.data(),
            .m = m.data(),
            .v = v.data(),
            .dtype = weights.dtype(),
            .compute_bf16 = compute.data(),
            .ranges = ranges,
            .lr = 0.01,
            .beta1 = 0.9,
            .beta2 = 0.95,
            .epsilon = 1e-8,
            .step = 1,
            .gradient_scale = nullptr};
  }
};

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

/// Updates `bias` [E] from `load` f64 [E].
inline void run_update_selection_bias(const Tensor& bias, const Tensor& load, double rate) {
  kernels::update_selection_bias(launch(), {.bias = bias.data_as<float>(),
                                            .load = load.data_as<double>(),
                                            .num_experts = load.numel(),
                                            .rate = rate});
}

}  // namespace smoe::test
