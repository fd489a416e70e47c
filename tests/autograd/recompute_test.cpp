#include "autograd/recompute.h"

#include <doctest/doctest.h>

#include "autograd/gradient_step.h"
#include "autograd/ops.h"
#include "core/memory.h"
#include "tests/support/compare.h"
#include "tests/support/gradients.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// 2 norm(x W1^T) W2^T: some intermediates to save.
struct Network {
  Parameter w1{"w1", {12, 5}, Init::normal(0.5)};
  Parameter norm{"norm", {12}, Init::constant(1), {.decays = false, .full_precision = true}};
  Parameter w2{"w2", {3, 12}, Init::normal(0.5)};
  ParameterStore store{{&w1, &norm, &w2}, {DType::f64, DType::f64, 1}};
  int runs = 0;

  std::vector<Variable> operator()(std::span<const Variable> in) {
    ++runs;
    const Variable hidden = linear(in[0], w1);
    const Variable y = linear(rms_norm(hidden, norm, 1e-5), w2);
    return {add(y, y), hidden};
  }
  std::vector<Variable> recomputed(const Variable& x) {
    Parameter* used[] = {&w1, &norm, &w2};
    return recompute("network", {x}, used,
                     [this](std::span<const Variable> in) { return (*this)(in); });
  }
};

}  // namespace

TEST_CASE("a recomputed segment's gradients agree with central differences") {
  for (const std::int64_t rows : {0, 1, 7}) {
    Network net;
    check_gradients(
        "recompute", [&](const std::vector<Variable>& in) { return net.recomputed(in[0]); },
        {random_normal("x", {rows, 5}, DType::f64)}, &net.store);
  }
}

TEST_CASE("a segment runs twice, keeps only its inputs, and completes each gradient once") {
  Network net;
  std::vector<std::string> completed;
  net.store.set_gradient_hooks({.complete = [&](Parameter& p) { completed.push_back(p.name()); }});
  Tape tape;
  const TapeScope scope(tape);
  const Variable x = tape.watch(random_normal("x", {64, 5}, DType::f64));
  const std::int64_t before = memory_use(Category::activations).now_bytes;
  std::vector<Variable> y = net.recomputed(x);
  y.pop_back();
  CHECK(memory_use(Category::activations).now_bytes - before == y[0].data().bytes());
  CHECK(net.runs == 1);
  CHECK(tape.size() == 1);
  GradientStep step(net.store);
  step.backward(tape, dot(y[0], random_normal("weights", y[0].shape(), DType::f64)));
  CHECK(net.runs == 2);
  CHECK(completed == std::vector<std::string>{"w1", "norm", "w2"});
}

TEST_CASE("a parameter that is also used outside the segment is complete after both uses") {
  Network net;
  int completed = 0;
  net.store.set_gradient_hooks({.complete = [&](Parameter& p) { completed += p.name() == "w1"; }});
  Tape tape;
  const TapeScope scope(tape);
  const Variable x = tape.watch(random_normal("x", {4, 5}, DType::f64));
  const Variable outside = linear(x, net.w1);
  const Variable inside = net.recomputed(x)[1];
  GradientStep step(net.store);
  step.backward(tape,
                dot(add(outside, inside), random_normal("weights", outside.shape(), DType::f64)));
  CHECK(completed == 1);
}

TEST_CASE("without a tape a segment runs once, and outputs without gradients contribute nothing") {
  Network net;
  const Tensor x = random_normal("x", {4, 5}, DType::f64);
  CHECK(net.recomputed(Variable(x)).size() == 2);
  CHECK(net.runs == 1);

  Tape tape;
  const TapeScope scope(tape);
  const auto outputs = net.recomputed(tape.watch(x));
  GradientStep step(net.store);
  step.backward(tape, dot(outputs[1], random_normal("weights", {4, 12}, DType::f64)));
  step.finish();
  for (const double g : values_of(net.w2.gradient())) CHECK(g == 0);
  double sum = 0;
  for (const double g : values_of(net.w1.gradient())) sum += std::abs(g);
  CHECK(sum > 0);
}
