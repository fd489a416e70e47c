#include "kernels/cross_entropy.h"

#include <doctest/doctest.h>

#include <numeric>

#include "core/device.h"
#include "tests/reference/cross_entropy.h"
#include "tests/support/compare.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr DType kDtypes[] = {DType::f32, DType::f64, DType::bf16};
constexpr double kScale = 0.125;

struct Sizes {
  std::int64_t num_tokens, vocabulary;
};
constexpr Sizes kSizes[] = {{1, 1},    {1, 2},  {3, 7},     {15, 33},
                            {16, 257}, {17, 8}, {70, 1000}, {0, 5}};

// Every fourth target does not count.
std::vector<std::int32_t> targets_of(const Sizes& sizes) {
  RandomStream stream(9, sizes.num_tokens, sizes.vocabulary);
  std::vector<std::int32_t> targets;
  for (std::int64_t t = 0; t < sizes.num_tokens; ++t)
    targets.push_back(t % 4 == 3 ? -1 : static_cast<std::int32_t>(stream.below(sizes.vocabulary)));
  return targets;
}

struct Result {
  Tensor logits, losses;
};

Result run(const Tensor& logits, const std::vector<std::int32_t>& targets, bool write_gradient) {
  const Tensor losses = Tensor::empty({logits.dim(0)}, accumulation_dtype(logits.dtype()));
  const Tensor ids = Tensor::from(targets, {logits.dim(0)});
  kernels::cross_entropy(launch(), {.logits = matrix_of(logits),
                                    .targets = ids.data_as<std::int32_t>(),
                                    .losses = losses.data(),
                                    .write_gradient = write_gradient,
                                    .scale = kScale});
  return {logits, losses};
}

Tensor random_logits(const Sizes& sizes, DType dtype) {
  return random_normal("logits", {sizes.num_tokens, sizes.vocabulary}, dtype, 3);
}

}  // namespace

TEST_CASE("cross_entropy agrees with the definition, and its gradient takes the logits' place") {
  const PoisonGuard poison;
  for (const Sizes& sizes : kSizes)
    for (const DType dtype : kDtypes) {
      const Tensor logits = random_logits(sizes, dtype);
      const auto targets = targets_of(sizes);
      const auto wanted =
          reference::cross_entropy(sizes.vocabulary, values_of(logits), targets, kScale);
      const Result loss_only = run(logits, targets, false);
      check_close("cross_entropy: losses", loss_only.losses, wanted.losses,
                  {.sum_length = sizes.vocabulary});
      check_same_bits("cross_entropy: logits", logits, random_logits(sizes, dtype));
      const Result both = run(logits, targets, true);
      check_same_bits("cross_entropy: losses", both.losses, loss_only.losses);
      check_close("cross_entropy: dlogits", both.logits, wanted.dlogits,
                  {.sum_length = sizes.vocabulary});
    }
}

TEST_CASE("cross_entropy holds against large logits and a certain answer") {
  const Tensor logits = tensor_of({1e4, -1e4, 0, 1e4, -1e4, 0}, {2, 3}, DType::f32);
  const Result got = run(logits, {0, 1}, true);
  CHECK(values_of(got.losses) == std::vector<double>{0, 2e4});
  const std::vector<double> gradient = values_of(got.logits);
  CHECK(gradient[0] == 0);
  CHECK(gradient[3] == kScale);
  CHECK(gradient[4] == -kScale);
}

TEST_CASE("a NaN among the logits reaches its loss and no other") {
  const Tensor logits = tensor_of({0, 1, NAN, 0, 1, 2}, {2, 3}, DType::f32);
  const std::vector<double> losses = values_of(run(logits, {0, 0}, true).losses);
  CHECK(std::isnan(losses[0]));
  CHECK(std::isfinite(losses[1]));
}

TEST_CASE("cross_entropy's bits do not depend on the number of threads") {
  for (const DType dtype : kDtypes)
    check_thread_independence("cross_entropy", [&] {
      const Sizes sizes{200, 257};
      const Result got = run(random_logits(sizes, dtype), targets_of(sizes), true);
      return std::vector{got.losses, got.logits};
    });
}

TEST_CASE("sum_losses adds up in double") {
  for (const DType dtype : {DType::f32, DType::f64})
    for (const std::int64_t n : {0, 1, 7, 100000}) {
      const Tensor losses = tensor_of(std::vector<double>(n, 0.1), {n}, dtype);
      const Tensor total = Tensor::empty({1}, dtype);
      kernels::sum_losses(launch(), {losses.data(), total.data(), dtype, n, 0.5});
      const std::vector<double> values = values_of(losses);
      const double wanted = 0.5 * std::accumulate(values.begin(), values.end(), 0.0);
      CHECK(std::abs(total.item() - wanted) <= unit_roundoff(dtype) * wanted);
    }
}
