// Cases of kernels/cross_entropy.h on the current stream.
#pragma once
#include <doctest/doctest.h>

#include <cmath>

#include "kernels/cross_entropy.h"
#include "tests/support/tensors.h"

namespace smoe::test {

struct CrossEntropySizes {
  std::int64_t num_tokens, vocabulary;
};

inline Tensor random_logits(const CrossEntropySizes& sizes, DType dtype, double scale) {
  return random_normal("logits", {sizes.num_tokens, sizes.vocabulary}, dtype, scale);
}

/// Random targets; every `period`-th one is -1.
inline std::vector<std::int32_t> random_targets(const CrossEntropySizes& sizes, int period) {
  RandomStream stream(9, sizes.num_tokens, sizes.vocabulary);
  std::vector<std::int32_t> targets;
  for (std::int64_t t = 0; t < sizes.num_tokens; ++t)
    targets.push_back(
        t % period == period - 1 ? -1 : static_cast<std::int32_t>(stream.below(sizes.vocabulary)));
  return targets;
}

/// Returns the losses. With `write_gradient` the gradient times `scale` overwrites the logits.
inline Tensor run_cross_entropy(const Tensor& logits, const std::vector<std::int32_t>& targets,
                                bool write_gradient, double scale) {
  const Tensor losses = Tensor::empty({logits.dim(0)}, accumulation_dtype(logits.dtype()));
  const Tensor ids = Tensor::from(targets, {logits.dim(0)});
  kernels::cross_entropy(launch(), {.logits = matrix_of(logits),
                                    .targets = ids.data_as<std::int32_t>(),
                                    .losses = losses.data(),
                                    .write_gradient = write_gradient,
                                    .scale = scale});
  return losses;
}

/// A NaN among the logits stays in its row.
inline void check_nan_row() {
  const Tensor logits = tensor_of({1, NAN, 2, 3, 4, 5}, {2, 3}, DType::f32);
  const std::vector<double> losses = values_of(run_cross_entropy(logits, {0, 0}, true, 0.125));
  const std::vector<double> gradient = values_of(logits);
  CHECK(std::isnan(losses[0]));
  CHECK(std::isfinite(losses[1]));
  for (int j = 0; j < 3; ++j) {
    CHECK(std::isnan(gradient[j]));
    CHECK(std::isfinite(gradient[3 + j]));
  }
}

inline Tensor run_sum_losses(const Tensor& losses, double scale) {
  const Tensor total = Tensor::empty({1}, losses.dtype());
  kernels::sum_losses(launch(), {.losses = losses.data(),
                                 .total = total.data(),
                                 .dtype = losses.dtype(),
                                 .numel = losses.numel(),
                                 .scale = scale});
  return total;
}

}  // namespace smoe::test
