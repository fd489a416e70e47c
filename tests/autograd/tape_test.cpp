#include "autograd/tape.h"

#include <doctest/doctest.h>

#include <string>

#include "autograd/ops.h"
#include "autograd/recompute.h"
#include "tests/support/compare.h"
#include "tests/support/gradients.h"

using namespace smoe;
using namespace smoe::test;

namespace {

Tensor ones(const Shape& shape) {
  return tensor_of(std::vector<double>(shape.numel(), 1), shape, DType::f64);
}

// y = factor * x; its backward records its runs and whether it held the sole reference to dy.
struct Probe {
  bool was_sole = false;
  int runs = 0;

  Variable operator()(const Variable& x, double factor) {
    const auto times = [factor](const Tensor& from) {
      std::vector<double> values = values_of(from);
      for (double& value : values) value *= factor;
      return tensor_of(values, from.shape(), DType::f64);
    };
    return record("probe", times(x.data()), {&x}, {}, [=, this](Tensor dy, InputGradients& out) {
      ++runs;
      was_sole = dy.is_sole_reference();
      out.give(0, times(dy));
    });
  }
};

Variable sum_of(const Variable& x) {
  return dot(x, ones(x.shape()));
}

}  // namespace

TEST_CASE("gradients of a variable's uses add up") {
  Tape tape;
  const TapeScope scope(tape);
  Probe probe;
  const Variable x = tape.watch(random_normal("x", {3}, DType::f64));
  const Variable twice = add(probe(x, 2), probe(x, 3));
  const auto gradients = tape.backward(sum_of(add(twice, x)));
  CHECK(values_of(gradients.of(x)) == std::vector<double>{6, 6, 6});
  CHECK(probe.runs == 2);
}

TEST_CASE("a gradient that an op gives to two inputs is not overwritten through one of them") {
  Tape tape;
  const TapeScope scope(tape);
  const Variable x = tape.watch(ones({2})), y = tape.watch(ones({2}));
  // add gives one tensor to both sides; the second use of x then adds to its own copy.
  const auto gradients = tape.backward(sum_of(add(add(x, y), x)));
  CHECK(values_of(gradients.of(x)) == std::vector<double>{2, 2});
  CHECK(values_of(gradients.of(y)) == std::vector<double>{1, 1});
}

TEST_CASE("a backward holds the sole reference to its gradient unless the gradient is shared") {
  Tape tape;
  const TapeScope scope(tape);
  Probe unshared, shared;
  const Variable x = tape.watch(ones({2})), y = tape.watch(ones({2}));
  tape.backward(sum_of(unshared(x, 1)));
  CHECK(unshared.was_sole);
  const Variable z = tape.watch(ones({2}));
  tape.backward(sum_of(add(shared(z, 1), tape.watch(ones({2})))));
  CHECK_FALSE(shared.was_sole);
}

TEST_CASE(
    "ops run backward in reverse order, each once, except those that the loss does not depend on") {
  Tape tape;
  const TapeScope scope(tape);
  std::string order;
  const auto named = [&](char name, const Variable& x) {
    return record("named", x.data(), {&x}, {}, [&, name](Tensor dy, InputGradients& out) {
      order += name;
      out.give(0, std::move(dy));
    });
  };
  const Variable x = tape.watch(ones({1}));
  const Variable a = named('a', x), b = named('b', a), unused = named('u', a), c = named('c', a);
  tape.backward(add(named('d', c), b));
  CHECK(order == "dcba");
}

TEST_CASE("an op of several outputs gets the gradients that reached it, the others undefined") {
  Tape tape;
  const TapeScope scope(tape);
  std::vector<bool> reached;
  const Variable x = tape.watch(ones({1}));
  const auto split = record_outputs("split", {ones({1}), ones({1}), ones({1})}, {&x}, {},
                                    [&](std::vector<Tensor> dys, InputGradients& out) {
                                      for (const Tensor& dy : dys) reached.push_back(dy.defined());
                                      out.give(0, dys[1]);
                                    });
  tape.backward(sum_of(split[1]));
  CHECK(reached == std::vector<bool>{false, true, false});
}

TEST_CASE(
    "nothing is recorded without a tape, without inputs that need gradients, or in a NoGradScope") {
  Probe probe;
  Tape tape;
  const Variable x = tape.watch(ones({2}));
  CHECK_FALSE(is_recording());
  CHECK_FALSE(probe(x, 2).requires_grad());
  const TapeScope scope(tape);
  CHECK(is_recording());
  CHECK_FALSE(probe(ones({2}), 2).requires_grad());
  {
    const NoGradScope no_grad;
    CHECK_FALSE(is_recording());
    CHECK_FALSE(probe(x, 2).requires_grad());
  }
  CHECK(tape.size() == 0);
  CHECK(probe(x, 2).requires_grad());
  CHECK(tape.size() == 1);
}

TEST_CASE("tensors saved by an op that is not recorded are freed at once") {
  const Tensor saved = ones({100});
  const Variable constant = ones({2});
  record("dropped", ones({2}), {&constant}, {}, [saved](Tensor, InputGradients&) {});
  CHECK(saved.is_sole_reference());
  Tape tape;
  const TapeScope scope(tape);
  const Variable x = tape.watch(ones({2}));
  record("kept", ones({2}), {&x}, {}, [saved](Tensor, InputGradients&) {});
  CHECK_FALSE(saved.is_sole_reference());
  tape.clear();
  CHECK(saved.is_sole_reference());
}

TEST_CASE("scopes nest and restore the outer tape") {
  Tape outer, inner;
  const TapeScope outer_scope(outer);
  {
    const TapeScope inner_scope(inner);
    Probe()(inner.watch(ones({1})), 1);
  }
  CHECK(inner.size() == 1);
  CHECK(outer.size() == 0);
  Probe()(outer.watch(ones({1})), 1);
  CHECK(outer.size() == 1);
}

TEST_CASE("backward frees each op as it goes") {
  Tape tape;
  const TapeScope scope(tape);
  const Tensor first = ones({10}), second = ones({10});
  bool second_was_freed = false;
  const Variable x = tape.watch(ones({1}));
  const Variable a = record("a", ones({1}), {&x}, {}, [&, first](Tensor dy, InputGradients& out) {
    second_was_freed = second.is_sole_reference();
    out.give(0, std::move(dy));
  });
  const Variable b = record("b", ones({1}), {&a}, {}, [second](Tensor dy, InputGradients& out) {
    out.give(0, std::move(dy));
  });
  tape.backward(b);
  CHECK(second_was_freed);
  CHECK(tape.size() == 0);
}

TEST_CASE("a graph runs backward once") {
  Tape tape;
  const TapeScope scope(tape);
  Probe probe;
  const Variable x = tape.watch(ones({1}));
  const Variable y = probe(x, 2);
  tape.backward(y);
  const char* message =
      "backward: a variable belongs to another tape, or to a graph that an earlier backward "
      "consumed; run the forward pass again";
  CHECK_THROWS_WITH_AS(tape.backward(y), message, UsageError);
  CHECK_THROWS_AS(probe(y, 2), UsageError);
  Tape other;
  const Variable elsewhere = other.watch(ones({1}));
  CHECK_THROWS_AS(probe(elsewhere, 2), UsageError);
  CHECK_THROWS_AS(tape.backward(elsewhere), UsageError);
}

TEST_CASE("backward rejects a loss that it cannot start from") {
  Tape tape;
  const TapeScope scope(tape);
  CHECK_THROWS_WITH_AS(
      tape.backward(Variable(ones({1}))),
      "backward: the loss depends on nothing that was recorded; is a TapeScope active?",
      UsageError);
  CHECK_THROWS_WITH_AS(tape.backward(tape.watch(ones({2}))),
                       "backward: the loss must have one element; got shape [2]", UsageError);
}

TEST_CASE("gradients are returned only for watched variables that reach the loss") {
  Tape tape;
  const TapeScope scope(tape);
  Probe probe;
  const Variable x = tape.watch(ones({1})), apart = tape.watch(ones({1}));
  const Variable y = probe(x, 2);
  const auto gradients = tape.backward(y);
  CHECK(values_of(gradients.of(x)) == std::vector<double>{2});
  CHECK_THROWS_AS(gradients.of(apart), UsageError);
  CHECK_THROWS_AS(gradients.of(y), UsageError);
  CHECK_THROWS_AS(gradients.of(Variable(ones({1}))), UsageError);
}

TEST_CASE("a backward that gives a gradient of the wrong shape or dtype is detected") {
  for (const Tensor& wrong : {ones({3}), Tensor::zeros({2}, DType::f32)}) {
    Tape tape;
    const TapeScope scope(tape);
    const Variable x = tape.watch(ones({2}));
    const Variable y = record("bad", ones({1}), {&x}, {},
                              [wrong](Tensor, InputGradients& out) { out.give(0, wrong); });
    CHECK_THROWS_AS(tape.backward(y), InternalError);
  }
}

TEST_CASE("the unit gradient is recognized without being read, and is never overwritten") {
  Tape tape;
  const TapeScope scope(tape);
  std::vector<bool> is_unit;
  bool was_sole = true;
  const Variable x = tape.watch(ones({1}));
  const auto pass_through = [&](const Variable& in) {
    return record("pass", ones({1}), {&in}, {}, [&](Tensor dy, InputGradients& out) {
      is_unit.push_back(out.is_unit(dy));
      was_sole = dy.is_sole_reference();
      out.give(0, std::move(dy));
    });
  };
  const Variable a = pass_through(x);
  const Variable both = add(
      pass_through(a), pass_through(a));  // a gets the unit gradient twice, which adds up to two
  tape.backward(both);
  CHECK(is_unit == std::vector<bool>{true, true, false});
  tape.backward(pass_through(tape.watch(ones({1}))));
  CHECK_FALSE(was_sole);
}

TEST_CASE("an observer sees outputs and gradients by op, also of recomputed segments") {
  std::string sites;
  Tape tape([&](const char* site, const Tensor& values) {
    sites += std::string(site) + " ";
    if (std::string(site) == "probe") values.data_as<double>()[0] = 7;
  });
  const TapeScope scope(tape);
  Probe probe;
  const Variable x = tape.watch(ones({1}));
  const Variable y = probe(x, 2);
  CHECK(y.data().item() == 7);
  const auto gradients = tape.backward(
      recompute("segment", {y}, {}, [&](auto in) { return std::vector{probe(in[0], 3)}; })[0]);
  CHECK(sites == "probe segment segment probe probe probe ");
  CHECK(gradients.of(x).item() == 14);
}
