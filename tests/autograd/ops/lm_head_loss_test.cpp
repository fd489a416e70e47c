#include <doctest/doctest.h>

#include <numeric>

#include "autograd/ops.h"
#include "autograd/parameter_store.h"
#include "autograd/tape.h"
#include "core/device.h"
#include "kernels/gemm.h"
#include "tests/reference/cross_entropy.h"
#include "tests/reference/gemm.h"
#include "tests/support/compare.h"
#include "tests/support/gradients.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Sizes {
  std::int64_t num_tokens, width, vocabulary, chunk;
};
constexpr Sizes kSizes[] = {{1, 1, 1, 1},    {0, 3, 4, 2},    {1, 1, 2, 5},     {2, 3, 2, 1},
                            {3, 2, 7, 2},    {5, 4, 3, 5},    {7, 1, 5, 3},     {8, 8, 8, 4},
                            {9, 5, 11, 4},   {16, 3, 2, 16},  {17, 7, 33, 16},  {31, 2, 9, 8},
                            {33, 16, 4, 32}, {40, 3, 257, 7}, {63, 5, 6, 64},   {64, 1, 3, 63},
                            {65, 9, 10, 64}, {70, 33, 5, 1},  {100, 4, 12, 30}, {130, 6, 65, 1000}};

// Every fourth target does not count.
Tensor targets_of(const Sizes& sizes) {
  RandomStream stream(9, sizes.num_tokens, sizes.vocabulary);
  std::vector<std::int32_t> targets;
  for (std::int64_t t = 0; t < sizes.num_tokens; ++t)
    targets.push_back(t % 4 == 3 ? -1 : static_cast<std::int32_t>(stream.below(sizes.vocabulary)));
  return Tensor::from(targets, {sizes.num_tokens});
}

double scale_of(const Sizes& sizes) {
  return 1.0 / double(std::max<std::int64_t>(sizes.num_tokens, 1));
}

Tensor random_x(const Sizes& sizes, DType dtype) {
  return random_normal("x", {sizes.num_tokens, sizes.width}, dtype);
}

// A weight, its store and one run of the op with its backward.
struct Run {
  Parameter weight;
  ParameterStore store;
  Tensor loss, dx;

  Run(const Sizes& sizes, DType dtype)
      : weight("head", {sizes.vocabulary, sizes.width}, Init::normal(1)),
        store({&weight}, {accumulation_dtype(dtype), dtype, 1}) {
    Tape tape;
    const TapeScope scope(tape);
    const Variable x = tape.watch(random_x(sizes, dtype));
    GradientStep step(store);
    const Variable total = lm_head_loss(x, weight, targets_of(sizes), scale_of(sizes), sizes.chunk);
    loss = total.data();
    dx = step.backward(tape, total).of(x);
    step.finish();
  }
};

struct Reference {
  double loss;
  std::vector<double> dx, dweight;
};

// Logits, and their gradient too, are rounded to bf16 where x is, as the op says.
std::vector<double> rounded(const std::vector<double>& values, DType dtype) {
  return values_of(tensor_of(values, {static_cast<std::int64_t>(values.size())}, dtype));
}

Reference reference_of(const Sizes& sizes, DType dtype, const Tensor& weight) {
  const auto [t, d, v, chunk] = sizes;
  const auto x = values_of(random_x(sizes, dtype)), w = values_of(weight);
  std::vector<double> logits(t * v), dx(t * d), dweight(v * d);
  reference::gemm(t, v, d, x, false, w, true, 0, logits);
  const auto wanted = reference::cross_entropy(
      v, rounded(logits, dtype), targets_of(sizes).to_vector<std::int32_t>(), scale_of(sizes));
  const auto dlogits = rounded(wanted.dlogits, dtype);
  reference::gemm(t, d, v, dlogits, false, w, false, 0, dx);
  reference::gemm(v, d, t, dlogits, true, x, false, 0, dweight);
  const double sum = std::accumulate(wanted.losses.begin(), wanted.losses.end(), 0.0);
  return {scale_of(sizes) * sum, dx, dweight};
}

}  // namespace

TEST_CASE("lm_head_loss agrees with unchunked logits for any chunk size") {
  const PoisonGuard poison;
  for (const Sizes& sizes : kSizes)
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      const Run run(sizes, dtype);
      const Reference wanted = reference_of(sizes, dtype, run.weight.value());
      // In bf16 a logit halfway between two values may round either way: the sums then err
      // by up to 2^-8 of the largest element, as this length says.
      const Closeness closeness =
          dtype == DType::bf16
              ? Closeness{.sum_length = std::int64_t{1} << 32, .factor = 1}
              : Closeness{.sum_length = sizes.num_tokens + sizes.vocabulary + sizes.width};
      check_close("lm_head_loss: loss", run.loss, {wanted.loss}, closeness);
      check_close("lm_head_loss: dx", run.dx, wanted.dx, closeness);
      check_close("lm_head_loss: dweight", run.weight.gradient(), wanted.dweight, closeness);
    }
}

TEST_CASE("lm_head_loss's gradients agree with central differences") {
  for (const Sizes& sizes : kSizes) {
    Run run(sizes, DType::f64);
    const Tensor x = random_x(sizes, DType::f64);
    const std::function<double()> loss = [&] {
      return lm_head_loss(x, run.weight, targets_of(sizes), scale_of(sizes), sizes.chunk)
          .data()
          .item();
    };
    CHECK(loss() == run.loss.item());  // not recording gives the same loss
    detail::compare_derivative("lm_head_loss: x", loss, x, run.dx);
    detail::compare_derivative("lm_head_loss: weight", loss, run.weight.master(),
                               run.weight.gradient());
  }
}

TEST_CASE("lm_head_loss adds to the weight's gradient of earlier micro-batches and other uses") {
  Parameter weight("tied", {7, 3}, Init::normal(1));
  ParameterStore store({&weight}, {DType::f64, DType::f64, 1});
  const Tensor ids = Tensor::from<std::int32_t>({0, 6, 6, 2, 1}, {5});
  const Tensor targets = Tensor::from<std::int32_t>({6, 6, -1, 1, 0}, {5});
  const auto forward = [&] {
    const Variable terms[] = {
        lm_head_loss(embedding(ids, weight), weight, targets, 0.25, 2),
        lm_head_loss(random_normal("x", {5, 3}, DType::f64), weight, ids, 0.5, 3)};
    return weighted_sum(terms, std::vector<double>{1, 1});
  };
  Tape tape;
  const TapeScope scope(tape);
  int fired = 0;
  store.set_gradient_hooks({.complete = [&](Parameter&) { ++fired; }});
  GradientStep step(store);
  step.backward(tape, forward());
  CHECK(fired == 1);
  const NoGradScope no_grad;
  detail::compare_derivative(
      "tied weight", [&] { return forward().data().item(); }, weight.master(), weight.gradient());
}

TEST_CASE("lm_head_loss rounds a bf16 gradient once per call, after all chunks") {
  const PoisonGuard poison;
  const Sizes sizes{65, 9, 33, 8};
  // Of micro-batches whose losses are multiplied by `factors`.
  const auto gradient_of = [&](DType dtype, const std::vector<double>& factors) {
    Parameter weight("head", {sizes.vocabulary, sizes.width}, Init::normal(1));
    ParameterStore store({&weight}, {.compute = DType::bf16, .seed = 1, .gradients = dtype});
    GradientStep step(store, std::ssize(factors));
    for (const double factor : factors) {
      Tape tape;
      const TapeScope scope(tape);
      step.backward(tape, lm_head_loss(random_x(sizes, DType::bf16), weight, targets_of(sizes),
                                       factor * scale_of(sizes), sizes.chunk));
    }
    step.finish();
    return values_of(weight.gradient());
  };
  std::vector<double> wanted = rounded(gradient_of(DType::f32, {1}), DType::bf16);
  CHECK(gradient_of(DType::bf16, {1}) == wanted);
  const std::vector<double> second = gradient_of(DType::f32, {3});
  for (std::size_t i = 0; i < wanted.size(); ++i) wanted[i] = float(wanted[i]) + float(second[i]);
  CHECK(gradient_of(DType::bf16, {1, 3}) == rounded(wanted, DType::bf16));
}

TEST_CASE("lm_head_loss refuses to be a weighted term of the total loss") {
  Parameter weight("head", {4, 3}, Init::normal(1));
  ParameterStore store({&weight}, {DType::f32, DType::f32, 1});
  Tape tape;
  const TapeScope scope(tape);
  const auto total = [&](double factor) {
    const Variable terms[] = {lm_head_loss(random_normal("x", {2, 3}, DType::f32), weight,
                                           Tensor::from<std::int32_t>({1, 0}, {2}), 0.5)};
    return weighted_sum(terms, std::vector<double>{factor});
  };
  CHECK_THROWS_WITH_AS(tape.backward(total(2)),
                       "lm_head_loss: its gradients are computed by the forward pass, so it must "
                       "reach the total loss with weight one; put factors into scale",
                       UsageError);
  tape.clear();
  CHECK_NOTHROW(tape.backward(total(1)));
}

TEST_CASE("lm_head_loss never stores more than one chunk of logits") {
  const Sizes sizes{1000, 8, 64, 100};
  Parameter weight("head", {sizes.vocabulary, sizes.width}, Init::normal(1));
  ParameterStore store({&weight}, {DType::f32, DType::f32, 1});
  Tape tape;
  const TapeScope scope(tape);
  const Variable x = tape.watch(random_x(sizes, DType::f32));
  const Tensor targets = targets_of(sizes);
  const auto extra = [&] {
    reset_peak_memory();
    const std::int64_t before = memory_use().now_bytes;
    const Variable loss = lm_head_loss(x, weight, targets, 1, sizes.chunk);
    return memory_use().peak_bytes - before;
  };
  const std::int64_t one_chunk = 4 * sizes.chunk * sizes.vocabulary;
  const std::int64_t losses = 4 * sizes.num_tokens, total = 4;
  // Recording also makes dx, and the products want their own scratch.
  const Tensor dlogits = Tensor::empty({sizes.chunk, sizes.vocabulary}, DType::f32);
  const std::int64_t product =
      kernels::gemm_workspace_bytes(launch(), {.a = matrix_of(dlogits),
                                               .transpose_a = true,
                                               .b = matrix_of(x.data().rows(0, sizes.chunk)),
                                               .c = matrix_of(weight.gradient())});
  CHECK(extra() == one_chunk + losses + x.data().bytes() + std::max<std::int64_t>(product, total));
  tape.clear();
  const NoGradScope no_grad;
  CHECK(extra() == one_chunk + losses + total);
}

TEST_CASE("lm_head_loss's bits do not depend on the number of threads") {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
    check_thread_independence("lm_head_loss", [&] {
      const Run run({300, 33, 257, 128}, dtype);
      return std::vector{run.loss, run.dx, run.weight.gradient()};
    });
}

TEST_CASE("lm_head_loss rejects invalid arguments") {
  Parameter weight("head", {4, 3}, Init::constant(1));
  ParameterStore store({&weight}, {});
  const Tensor x = Tensor::zeros({2, 3}, DType::f32), targets = Tensor::zeros({2}, DType::i32);
  CHECK_THROWS_WITH_AS(lm_head_loss(x, weight, Tensor::zeros({3}, DType::i32), 1),
                       "lm_head_loss: x must be [T, D], weight [V, D] and targets [T]; got x "
                       "[2, 3], head [4, 3], targets [3]",
                       UsageError);
  CHECK_THROWS_WITH_AS(lm_head_loss(Tensor::zeros({2, 3}, DType::bf16), weight, targets, 1),
                       "lm_head_loss: x and weight must have one floating dtype and targets be "
                       "i32; got x bf16, head f32, targets i32",
                       UsageError);
  CHECK_THROWS_WITH_AS(lm_head_loss(x, weight, targets, 1, 0),
                       "lm_head_loss: chunk must be positive; got 0", UsageError);
}
