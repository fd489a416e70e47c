#include "tests/reference/norm.h"

#include <doctest/doctest.h>

#include "autograd/gradient_step.h"
#include "autograd/ops.h"
#include "autograd/parameter_store.h"
#include "autograd/routed_sum.h"
#include "autograd/tape.h"
#include "tests/support/compare.h"
#include "tests/support/gradients.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr double kEpsilon = 0.5;

struct Sizes {
  std::int64_t num_tokens, width;
};
constexpr Sizes kSizes[] = {{1, 1},   {0, 3},   {2, 1},   {1, 2},   {3, 4},   {5, 7},  {8, 8},
                            {7, 16},  {16, 3},  {31, 5},  {33, 2},  {63, 9},  {64, 4}, {65, 1},
                            {65, 31}, {100, 6}, {128, 8}, {129, 3}, {2, 130}, {1, 257}};

// A norm's weight in a store of its own.
struct Weight {
  Parameter parameter;
  ParameterStore store;

  Weight(std::int64_t width, DType dtype)
      : parameter("norm.weight", {width}, Init::normal(1), {.parts = {}, .full_precision = true}),
        store({&parameter}, {accumulation_dtype(dtype), dtype, 1}) {}
};

std::vector<double> sum_of(const Tensor& a, const Tensor& b) {
  std::vector<double> sum = values_of(a);
  const std::vector<double> other = values_of(b);
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += other[i];
  return sum;
}

}  // namespace

TEST_CASE("rms_norm's forward and backward agree with plain loops in every dtype") {
  const PoisonGuard poison;
  for (const auto& [num_tokens, width] : kSizes)
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      Weight weight(width, dtype);
      Tape tape;
      const TapeScope scope(tape);
      const Variable x = tape.watch(random_normal("x", {num_tokens, width}, dtype));
      const Tensor dy = random_normal("dy", {num_tokens, width}, dtype);
      const Variable y = rms_norm(x, weight.parameter, kEpsilon);
      const GradientStep step(weight.store);
      const auto gradients = tape.backward(dot(y, dy));
      const auto x_values = values_of(x.data()), w = values_of(weight.parameter.value());
      const auto wanted =
          reference::rms_norm_backward(num_tokens, width, x_values, w, kEpsilon, values_of(dy));
      check_close("rms_norm: y", y.data(),
                  reference::rms_norm(num_tokens, width, x_values, w, kEpsilon),
                  {.sum_length = width});
      check_close("rms_norm: dx", gradients.of(x), wanted.dx, {.sum_length = width});
      check_close("rms_norm: dweight", weight.parameter.gradient(), wanted.dweight,
                  {.sum_length = num_tokens + 1});
    }
}

TEST_CASE("add_rms_norm normalizes a sum, and the gradients of its two outputs add up") {
  const PoisonGuard poison;
  for (const auto& [num_tokens, width] : kSizes)
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      Weight weight(width, dtype);
      Tape tape;
      const TapeScope scope(tape);
      const Shape shape{num_tokens, width};
      const Variable residual = tape.watch(random_normal("residual", shape, dtype));
      const Variable delta = tape.watch(random_normal("delta", shape, dtype));
      const auto [sum, normed] = add_rms_norm(residual, delta, weight.parameter, kEpsilon);
      const Tensor dsum = random_normal("dsum", shape, dtype);
      const Tensor dnormed = random_normal("dnormed", shape, dtype);
      const Variable terms[] = {dot(sum, dsum), dot(normed, dnormed)};
      const GradientStep step(weight.store);
      const auto gradients = tape.backward(weighted_sum(terms, std::vector<double>{1, 1}));

      check_close("add_rms_norm: sum", sum.data(), sum_of(residual.data(), delta.data()));
      const auto x = values_of(sum.data()), w = values_of(weight.parameter.value());
      check_close("add_rms_norm: normed", normed.data(),
                  reference::rms_norm(num_tokens, width, x, w, kEpsilon), {.sum_length = width});
      auto wanted =
          reference::rms_norm_backward(num_tokens, width, x, w, kEpsilon, values_of(dnormed));
      const auto past_norm = values_of(dsum);
      for (std::size_t i = 0; i < past_norm.size(); ++i) wanted.dx[i] += past_norm[i];
      check_close("add_rms_norm: dresidual", gradients.of(residual), wanted.dx,
                  {.sum_length = width});
      CHECK(gradients.of(delta).shares_storage(gradients.of(residual)));
      check_close("add_rms_norm: dweight", weight.parameter.gradient(), wanted.dweight,
                  {.sum_length = num_tokens + 1});
    }
}

TEST_CASE("the norms' gradients agree with central differences") {
  for (const auto& [num_tokens, width] : kSizes) {
    Weight weight(width, DType::f64);
    const Tensor x = random_normal("x", {num_tokens, width}, DType::f64);
    const Tensor delta = random_normal("delta", {num_tokens, width}, DType::f64);
    check_gradients(
        "rms_norm",
        [&](const auto& in) { return std::vector{rms_norm(in[0], weight.parameter, kEpsilon)}; },
        {x}, &weight.store);
    check_gradients(
        "add_rms_norm",
        [&](const auto& in) {
          const auto [sum, normed] = add_rms_norm(in[0], in[1], weight.parameter, kEpsilon);
          return std::vector{sum, normed};
        },
        {x, delta}, &weight.store);
    check_gradients(
        "add_rms_norm, normed alone",
        [&](const auto& in) {
          return std::vector{add_rms_norm(in[0], in[1], weight.parameter, kEpsilon).normed};
        },
        {x, delta}, &weight.store);
    check_gradients(
        "add_rms_norm, sum alone",
        [&](const auto& in) {
          return std::vector{add_rms_norm(in[0], in[1], weight.parameter, kEpsilon).sum};
        },
        {x, delta}, &weight.store);
  }
}

TEST_CASE("gradients of several micro-batches add up") {
  Weight weight(5, DType::f64);
  check_gradients(
      "rms_norm, used twice",
      [&](const auto& in) {
        return std::vector{rms_norm(in[0], weight.parameter, kEpsilon),
                           rms_norm(in[1], weight.parameter, kEpsilon)};
      },
      {random_normal("x", {70, 5}, DType::f64), random_normal("x2", {3, 5}, DType::f64)},
      &weight.store);
}

TEST_CASE("the norms save one number per row and write dx over dy") {
  constexpr std::int64_t kTokens = 100, kWidth = 32, kBytes = kTokens * kWidth * 4;
  Weight weight(kWidth, DType::f32);
  Tape tape;
  const TapeScope scope(tape);
  const Variable residual = tape.watch(random_normal("r", {kTokens, kWidth}, DType::f32));
  const Variable delta = tape.watch(random_normal("d", {kTokens, kWidth}, DType::f32));
  const std::int64_t before = memory_use(Category::activations).now_bytes;
  Variable normed = add_rms_norm(residual, delta, weight.parameter, kEpsilon).normed;
  CHECK(memory_use(Category::activations).now_bytes - before == 2 * kBytes + 4 * kTokens);
  const Variable loss = dot(normed, random_normal("dy", {kTokens, kWidth}, DType::f32));
  normed = Variable();
  reset_peak_memory();
  const std::int64_t at_backward = memory_use(Category::activations).now_bytes;
  const auto gradients = tape.backward(loss);
  // dot's gradient (kBytes) and the unit gradient (an f64) are all that is new.
  CHECK(memory_use(Category::activations).peak_bytes - at_backward == kBytes + 8);
}

TEST_CASE("the norms reject invalid arguments") {
  Weight weight(4, DType::bf16);
  CHECK_THROWS_WITH_AS(rms_norm(Tensor::zeros({2, 5}, DType::bf16), weight.parameter, 1e-5),
                       "rms_norm: x must be [T, D] and weight [D], D > 0; got x [2, 5], "
                       "norm.weight [4]",
                       UsageError);
  CHECK_THROWS_WITH_AS(rms_norm(Tensor::zeros({2, 4}, DType::f64), weight.parameter, 1e-5),
                       "rms_norm: x is f64, so its weight must be f64; got norm.weight in f32",
                       UsageError);
  CHECK_THROWS_AS(rms_norm(Tensor::zeros({2, 4}, DType::bf16), weight.parameter, -1), UsageError);
  CHECK_THROWS_WITH_AS(
      add_rms_norm(Tensor::zeros({2, 4}, DType::bf16), Tensor::zeros({3, 4}, DType::bf16),
                   weight.parameter, 1e-5),
      "add_rms_norm: residual and delta must have one shape and dtype; got [2, 4] bf16 and "
      "[3, 4] bf16",
      UsageError);
}

TEST_CASE("a norm sums the gradients of experts and router itself, as their own ops do") {
  const std::int64_t tokens = 7, width = 6;
  for (const std::int64_t num_experts : {4, 9}) {
    Parameter weight("norm", {width}, Init::normal(1), {.full_precision = true});
    Parameter router("router", {num_experts, width}, Init::normal(1), {.full_precision = true});
    Parameter w1("w1", {num_experts, 2, 5, width}, Init::normal(1));
    Parameter w2("w2", {num_experts, width, 5}, Init::normal(1));
    ParameterStore store({&weight, &router, &w1, &w2}, {DType::f64, DType::f64, 3});
    const auto run = [&](bool is_summed) {
      Tape tape;
      const TapeScope scope(tape);
      GradientStep step(store);
      const Variable residual = tape.watch(random_normal("residual", {tokens, width}, DType::f64));
      const Variable delta = tape.watch(random_normal("delta", {tokens, width}, DType::f64));
      const ResidualNorm norm = add_rms_norm(residual, delta, weight, kEpsilon);
      // An op in between receives tensors only.
      const Variable x =
          is_summed ? norm.normed : add(norm.normed, Tensor::zeros({tokens, width}, DType::f64));
      const Routing routing =
          route(linear(x, router), RouterScore::softmax_topk_renorm, TopK{.top_k = 2});
      const Variable y = moe_mlp(x, routing.gates, routing.plan, w1, w2, Activation::swiglu);
      const std::vector<Variable> terms{
          dot(y, random_normal("dy", {tokens, width}, DType::f64)),
          dot(norm.normed, random_normal("dnormed", {tokens, width}, DType::f64)),
          dot(norm.sum, random_normal("dsum", {tokens, width}, DType::f64)), routing.balance_loss};
      const auto gradients =
          step.backward(tape, weighted_sum(terms, std::vector<double>{1, 1, 1, 0.5}));
      step.finish();
      return std::vector{values_of(gradients.of(residual)), values_of(gradients.of(delta)),
                         values_of(store.gradient())};
    };
    const auto summed = run(true), apart = run(false);
    for (std::size_t i = 0; i < summed.size(); ++i)
      for (std::size_t j = 0; j < summed[i].size(); ++j)
        CHECK(summed[i][j] == doctest::Approx(apart[i][j]).epsilon(1e-10));
  }
}

TEST_CASE("a norm sums the experts' rows itself, with the bits of combine and add") {
  const std::int64_t tokens = 7, width = 6, num_experts = 4;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    Parameter weight("norm", {width}, Init::normal(1), {.full_precision = true});
    Parameter w1("w1", {num_experts, 2, 5, width}, Init::normal(1));
    Parameter w2("w2", {num_experts, width, 5}, Init::normal(1));
    const DType acc = accumulation_dtype(dtype);
    const ParameterStore store({&weight, &w1, &w2}, {acc, dtype, 3});
    const Variable x = random_normal("x", {tokens, width}, dtype);
    const Routing routing = route(random_normal("logits", {tokens, num_experts}, acc),
                                  RouterScore::softmax_topk_renorm, TopK{.top_k = 2});
    const Variable y = moe_mlp(x, routing.gates, routing.plan, w1, w2, Activation::swiglu);
    REQUIRE(y.routed_sum()->has_rows());
    const ResidualNorm fused = add_rms_norm(x, y, weight, kEpsilon);
    const ResidualNorm apart = add_rms_norm(x, Variable(y.data()), weight, kEpsilon);
    CHECK_FALSE(y.routed_sum()->has_rows());
    check_same_bits("sum", fused.sum.data(), apart.sum.data());
    check_same_bits("normed", fused.normed.data(), apart.normed.data());
    check_same_bits("sum of rows", add_rms_norm(x, y, weight, kEpsilon).sum.data(),
                    apart.sum.data());
  }
}
