#include <doctest/doctest.h>

#include "autograd/gradient_step.h"
#include "autograd/ops.h"
#include "autograd/parameter_store.h"
#include "autograd/tape.h"
#include "tests/support/compare.h"
#include "tests/support/gradients.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// {T, D}
constexpr std::int64_t kSizes[][2] = {{1, 1}, {0, 3}, {5, 1}, {1, 9}, {33, 17}, {130, 65}};

}  // namespace

TEST_CASE("add_bias's forward and backward agree with plain loops in every dtype") {
  const PoisonGuard poison;
  for (const auto& [num_tokens, width] : kSizes)
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      Parameter bias("b", {width}, Init::normal(1));
      ParameterStore store({&bias}, {accumulation_dtype(dtype), dtype, 1});
      Tape tape;
      const TapeScope scope(tape);
      const Variable x = tape.watch(random_normal("x", {num_tokens, width}, dtype));
      const Variable y = add_bias(x, bias);
      const Tensor dy = random_normal("dy", y.shape(), dtype);
      const GradientStep step(store);
      const auto gradients = tape.backward(dot(y, dy));

      const auto x_values = values_of(x.data()), b = values_of(bias.value());
      std::vector<double> wanted(x_values), db(width);
      const auto dy_values = values_of(dy);
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        wanted[i] += b[i % width];
        db[i % width] += dy_values[i];
      }
      check_close("add_bias: y", y.data(), wanted, {.sum_length = 2});
      check_close("add_bias: db", bias.gradient(), db, {.sum_length = num_tokens + 1});
      check_same_bits("add_bias: dx", gradients.of(x), dy);
    }
}

TEST_CASE("add_bias works in place on a value that is moved in") {
  Parameter bias("b", {4}, Init::constant(2));
  const ParameterStore store({&bias}, {});
  Variable x = random_normal("x", {3, 4}, DType::f32);
  const void* const before = x.data().data();
  CHECK(add_bias(std::move(x), bias).data().data() == before);
}

TEST_CASE("add_bias's gradients agree with central differences") {
  Parameter bias("b", {6}, Init::normal(1));
  ParameterStore store({&bias}, {DType::f64, DType::f64, 1});
  check_gradients(
      "add_bias, used twice",
      [&](const auto& x) {
        return std::vector{add_bias(x[0], bias), add_bias(x[1], bias)};
      },
      {random_normal("x", {5, 6}, DType::f64), random_normal("x2", {2, 6}, DType::f64)}, &store);
}

TEST_CASE("add_bias rejects a bias of another width") {
  Parameter bias("b", {3}, Init::constant(0));
  const ParameterStore store({&bias}, {});
  const Variable x = random_normal("x", {2, 4}, DType::f32);
  CHECK_THROWS_WITH_AS(add_bias(x, bias),
                       "add_bias: x must be a floating [T, D] and the bias [D]; got x [2, 4] f32, "
                       "b [3]",
                       UsageError);
}
