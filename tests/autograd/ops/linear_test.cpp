#include <doctest/doctest.h>

#include "autograd/gradient_step.h"
#include "autograd/ops.h"
#include "autograd/parameter_store.h"
#include "autograd/tape.h"
#include "tests/reference/gemm.h"
#include "tests/support/compare.h"
#include "tests/support/gradients.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Sizes {
  std::int64_t num_tokens, in, out;
};

constexpr Sizes kSizes[] = {{1, 1, 1},   {0, 3, 4},   {5, 1, 7},    {1, 9, 1},    {2, 2, 2},
                            {3, 8, 16},  {4, 5, 6},   {7, 7, 7},    {8, 1, 1},    {1, 16, 31},
                            {15, 4, 3},  {16, 16, 4}, {31, 2, 5},   {33, 17, 9},  {63, 3, 10},
                            {64, 8, 65}, {65, 31, 2}, {127, 12, 1}, {129, 1, 12}, {130, 70, 65}};

}  // namespace

TEST_CASE("linear's forward and backward agree with plain loops in every dtype") {
  const PoisonGuard poison;
  for (const Sizes& sizes : kSizes)
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
      for (const bool full_precision : {false, true}) {
        const auto [t, in, out] = sizes;
        Parameter::Options options;
        options.full_precision = full_precision;
        Parameter weight("w", {out, in}, Init::normal(1), options);
        ParameterStore store({&weight}, {accumulation_dtype(dtype), dtype, 1});
        Tape tape;
        const TapeScope scope(tape);
        const Variable x = tape.watch(random_normal("x", {t, in}, dtype));
        const DType y_dtype = full_precision ? accumulation_dtype(dtype) : dtype;
        const Tensor dy = random_normal("dy", {t, out}, y_dtype);
        const Variable y = linear(x, weight);
        REQUIRE(y.dtype() == y_dtype);
        const GradientStep step(store);
        const auto gradients = tape.backward(dot(y, dy));

        const auto x_values = values_of(x.data()), w = values_of(weight.value());
        std::vector<double> y_wanted(t * out), dx(t * in), dw(out * in);
        reference::gemm(t, out, in, x_values, false, w, true, 0, y_wanted);
        reference::gemm(t, in, out, values_of(dy), false, w, false, 0, dx);
        reference::gemm(out, in, t, values_of(dy), true, x_values, false, 0, dw);
        check_close("linear: y", y.data(), y_wanted, {.sum_length = in});
        check_close("linear: dx", gradients.of(x), dx, {.sum_length = out});
        check_close("linear: dw", weight.gradient(), dw, {.sum_length = t + 1});
      }
}

TEST_CASE("linear's gradients agree with central differences") {
  for (const Sizes& sizes : kSizes) {
    Parameter weight("w", {sizes.out, sizes.in}, Init::normal(1));
    ParameterStore store({&weight}, {DType::f64, DType::f64, 1});
    check_gradients(
        "linear", [&](const auto& x) { return std::vector{linear(x[0], weight)}; },
        {random_normal("x", {sizes.num_tokens, sizes.in}, DType::f64)}, &store);
  }
}

TEST_CASE("linear adds to the gradient of earlier micro-batches and uses") {
  Parameter weight("w", {4, 3}, Init::normal(1));
  ParameterStore store({&weight}, {DType::f64, DType::f64, 1});
  check_gradients(
      "linear, used twice",
      [&](const auto& x) {
        return std::vector{linear(x[0], weight), linear(x[1], weight)};
      },
      {random_normal("x", {5, 3}, DType::f64), random_normal("x2", {2, 3}, DType::f64)}, &store);
}

TEST_CASE("linear rejects invalid arguments") {
  Parameter weight("mlp.w", {4, 3}, Init::constant(1));
  ParameterStore store({&weight}, {DType::f32, DType::bf16, 1});
  CHECK_THROWS_WITH_AS(linear(Tensor::zeros({2, 5}, DType::bf16), weight),
                       "linear: x must be [T, D_in] and weight [D_out, D_in]; got x [2, 5], "
                       "mlp.w [4, 3]",
                       UsageError);
  CHECK_THROWS_WITH_AS(linear(Tensor::zeros({2, 3}, DType::f32), weight),
                       "linear: x is f32, so its weight must be f32; got mlp.w in bf16",
                       UsageError);
}
