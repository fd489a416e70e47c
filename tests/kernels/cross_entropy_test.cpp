#include "kernels/cross_entropy.h"

#include <doctest/doctest.h>

#include <numeric>

#include "tests/kernels/cross_entropy_cases.h"
#include "tests/reference/cross_entropy.h"
#include "tests/support/compare.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr DType kDtypes[] = {DType::f32, DType::f64, DType::bf16};
constexpr double kScale = 0.125;

constexpr CrossEntropySizes kSizes[] = {{1, 1},    {1, 2},  {3, 7},     {15, 33},
                                        {16, 257}, {17, 8}, {70, 1000}, {0, 5}};

}  // namespace

TEST_CASE("cross_entropy agrees with the definition, and its gradient overwrites the logits") {
  const PoisonGuard poison;
  for (const CrossEntropySizes& sizes : kSizes)
    for (const DType dtype : kDtypes) {
      const Tensor logits = random_logits(sizes, dtype, 3);
      const auto targets = random_targets(sizes, 4);
      const auto wanted =
          reference::cross_entropy(sizes.vocabulary, values_of(logits), targets, kScale);
      const Tensor losses = run_cross_entropy(logits, targets, false, kScale);
      check_close("cross_entropy: losses", losses, wanted.losses, {.sum_length = sizes.vocabulary});
      check_same_bits("cross_entropy: logits", logits, random_logits(sizes, dtype, 3));
      check_same_bits("cross_entropy: losses", run_cross_entropy(logits, targets, true, kScale),
                      losses);
      check_close("cross_entropy: dlogits", logits, wanted.dlogits,
                  {.sum_length = sizes.vocabulary});
    }
}

TEST_CASE("cross_entropy is accurate for large logits and probabilities of one") {
  const Tensor logits = tensor_of({1e4, -1e4, 0, 1e4, -1e4, 0}, {2, 3}, DType::f32);
  const Tensor losses = run_cross_entropy(logits, {0, 1}, true, kScale);
  CHECK(values_of(losses) == std::vector<double>{0, 2e4});
  const std::vector<double> gradient = values_of(logits);
  CHECK(gradient[0] == 0);
  CHECK(gradient[3] == kScale);
  CHECK(gradient[4] == -kScale);
}

TEST_CASE("cross_entropy keeps NaNs in their row") {
  check_nan_row();
}

TEST_CASE("cross_entropy's bits do not depend on the number of threads") {
  for (const DType dtype : kDtypes)
    check_thread_independence("cross_entropy", [&] {
      const CrossEntropySizes sizes{200, 257};
      const Tensor logits = random_logits(sizes, dtype, 3);
      return std::vector{run_cross_entropy(logits, random_targets(sizes, 4), true, kScale), logits};
    });
}

TEST_CASE("sum_losses accumulates in double") {
  for (const DType dtype : {DType::f32, DType::f64})
    for (const std::int64_t n : {0, 1, 7, 100000}) {
      const Tensor losses = tensor_of(std::vector<double>(n, 0.1), {n}, dtype);
      const Tensor total = run_sum_losses(losses, 0.5);
      const std::vector<double> values = values_of(losses);
      const double wanted = 0.5 * std::accumulate(values.begin(), values.end(), 0.0);
      CHECK(std::abs(total.item() - wanted) <= unit_roundoff(dtype) * wanted);
    }
}
