#include <doctest/doctest.h>

#include <cmath>

#include "autograd/ops.h"
#include "autograd/tape.h"
#include "tests/support/compare.h"
#include "tests/support/gradients.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr std::int64_t kRows[] = {1, 2, 7, 33, 130};

// Every seventh target is ignored.
Tensor some_targets(std::int64_t num_tokens, std::int64_t num_classes) {
  std::vector<std::int32_t> targets;
  for (std::int64_t i = 0; i < num_tokens; ++i)
    targets.push_back(i % 7 == 3 ? -1 : static_cast<std::int32_t>(i * 5 % num_classes));
  return Tensor::from(targets, {num_tokens});
}

}  // namespace

TEST_CASE("gradients of losses agree with central differences") {
  for (const std::int64_t rows : kRows) {
    const Tensor x = random_normal("x", {rows, 5}, DType::f64);
    const Tensor target = random_normal("target", {rows, 5}, DType::f64);
    const Tensor classes = some_targets(rows, 5);
    check_gradients("sum", [](const auto& in) { return std::vector{sum(in[0])}; }, {x});
    check_gradients("mean_squared_error",
                    [&](const auto& in) { return std::vector{mean_squared_error(in[0], target)}; },
                    {x});
    check_gradients(
        "softmax_cross_entropy",
        [&](const auto& in) { return std::vector{softmax_cross_entropy(in[0], classes, 0.3)}; },
        {x});
    // Not the whole loss, so that its gradient is not one.
    check_gradients("weighted losses",
                    [&](const auto& in) {
                      const Variable terms[] = {mean_squared_error(in[0], target),
                                                softmax_cross_entropy(in[0], classes), sum(in[0])};
                      return std::vector{weighted_sum(terms, std::vector<double>{0.5, -2, 0.125})};
                    },
                    {x});
  }
}

TEST_CASE("losses agree with sums in double, in every dtype") {
  const PoisonGuard poison;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    for (const std::int64_t rows : kRows) {
      const Tensor x = random_normal("x", {rows, 5}, dtype);
      const Tensor y = random_normal("y", {rows, 5}, dtype);
      const std::vector<double> a = values_of(x), b = values_of(y);
      const Tensor targets = some_targets(rows, 5);
      double total = 0, squares = 0, entropy = 0, magnitude = 0;
      for (std::int64_t row = 0; row < rows; ++row) {
        double exponentials = 0;
        for (std::int64_t c = 0; c < 5; ++c) {
          const double value = a[row * 5 + c], difference = value - b[row * 5 + c];
          total += value;
          magnitude += std::abs(value);
          squares += difference * difference;
          exponentials += std::exp(value);
        }
        const std::int32_t target = targets.data_as<std::int32_t>()[row];
        if (target >= 0) entropy += std::log(exponentials) - a[row * 5 + target];
      }
      const DType accumulation = accumulation_dtype(dtype);
      const auto check = [&](const char* name, const Variable& got, double wanted, double slack) {
        REQUIRE(got.dtype() == accumulation);
        check_close(name, got.data(), {wanted},
                    {.sum_length = rows * 5, .slack = unit_roundoff(accumulation) * slack});
      };
      check("sum", sum(x), total, magnitude);
      check("mean_squared_error", mean_squared_error(x, y), squares / double(rows * 5), 0);
      check("softmax_cross_entropy", softmax_cross_entropy(x, targets, 0.25), 0.25 * entropy,
            double(rows));
    }
}

TEST_CASE("losses leave inputs that others refer to as they are") {
  Tape tape;
  const TapeScope scope(tape);
  const Tensor x = random_normal("x", {6, 5}, DType::f32);
  const std::vector<double> before = values_of(x);
  const Variable watched = tape.watch(x);
  const Variable terms[] = {softmax_cross_entropy(watched, some_targets(6, 5)),
                            mean_squared_error(watched, random_normal("y", {6, 5}, DType::f32))};
  tape.backward(weighted_sum(terms, std::vector<double>{1, 1}));
  CHECK(values_of(x) == before);
}

TEST_CASE("losses name what does not fit") {
  const Variable x = random_normal("x", {2, 3}, DType::f32);
  CHECK_THROWS_WITH_AS(mean_squared_error(x, Tensor::zeros({2, 3}, DType::f64)),
                       "mean_squared_error: x and target must have one shape and floating dtype; "
                       "got [2, 3] f32 and [2, 3] f64",
                       UsageError);
  CHECK_THROWS_AS(
      mean_squared_error(Tensor::zeros({0, 3}, DType::f32), Tensor::zeros({0, 3}, DType::f32)),
      UsageError);
  CHECK_THROWS_WITH_AS(softmax_cross_entropy(x, Tensor::from(std::vector{0, 3}, {2})),
                       "softmax_cross_entropy: ids must be -1 to 2; got 3 at 1", UsageError);
  CHECK_THROWS_AS(softmax_cross_entropy(x, Tensor::from(std::vector{0}, {1})), UsageError);
  CHECK_THROWS_AS(sum(Tensor::from(std::vector{0, 3}, {2})), UsageError);
}
