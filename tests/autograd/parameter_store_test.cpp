#include "autograd/parameter_store.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "autograd/gradient_step.h"
#include "autograd/ops.h"
#include "tests/support/compare.h"
#include "tests/support/gradients.h"
#include "tests/support/temporary_folder.h"

using namespace smoe;
using namespace smoe::test;

namespace {

Parameter::Options undecayed() {
  return {.parts = {}, .decays = false, .full_precision = true};
}

// Three parameters in order of use.
struct Model {
  Parameter first{"first", {3, 5}, Init::normal(0.5)};
  Parameter norm{"norm", {5}, Init::constant(1), undecayed()};
  Parameter last{"last", {8, 8}, Init::normal(2)};
};

}  // namespace

TEST_CASE("parameters lie in the buffers in reverse order of use, aligned to 64 elements") {
  Model model;
  ParameterStore store({&model.first, &model.norm, &model.last}, {});
  CHECK(store.parameters()[0] == &model.last);
  CHECK(store.parameters()[2] == &model.first);
  CHECK(store.offset_of(model.last) == 0);
  CHECK(store.offset_of(model.norm) == 64);
  CHECK(store.offset_of(model.first) == 128);
  CHECK(store.num_elements() == 15 + 5 + 64);
  CHECK(store.master().numel() == 192);
  CHECK(store.gradient().numel() == 192);
  CHECK(model.norm.gradient().shares_storage(store.gradient()));
  CHECK(model.norm.gradient().data() == store.gradient().data_as<float>() + 64);
  CHECK(model.norm.master().shape() == Shape{5});
  Parameter stranger("stranger", {1}, Init::constant(0));
  CHECK_THROWS_WITH_AS(store.offset_of(stranger), "parameter_store: stranger is not in this store",
                       UsageError);
}

TEST_CASE("ranges cover every element once, exclude padding, and do not mix weight decay") {
  Model model;
  Parameter whole("whole", {64}, Init::constant(0)), next("next", {2}, Init::constant(0));
  ParameterStore store({&next, &whole, &model.first, &model.norm, &model.last}, {});
  std::vector<std::vector<std::int64_t>> ranges;
  for (const auto& range : store.ranges())
    ranges.push_back({range.offset, range.numel, range.decays});
  // last fills its 64 elements, but norm does not decay; first ends in padding; whole and next
  // are adjacent.
  CHECK(ranges ==
        std::vector<std::vector<std::int64_t>>{{0, 64, 1}, {64, 5, 0}, {128, 15, 1}, {192, 66, 1}});
}

TEST_CASE("initial values depend only on seed and name") {
  Model a, b, c;
  ParameterStore one({&a.first, &a.norm, &a.last}, {DType::f32, DType::f32, 7});
  ParameterStore other_order({&b.last, &b.first}, {DType::f32, DType::f32, 7});
  ParameterStore other_seed({&c.first}, {DType::f32, DType::f32, 8});
  check_same_bits("first", a.first.master(), b.first.master());
  check_same_bits("last", a.last.master(), b.last.master());
  CHECK(values_of(a.first.master()) != values_of(c.first.master()));
  CHECK(values_of(a.norm.master()) == std::vector<double>(5, 1));
  double squares = 0;
  for (const double value : values_of(a.last.master())) squares += value * value;
  CHECK(std::sqrt(squares / 64) == doctest::Approx(2).epsilon(0.3));
}

TEST_CASE("in bf16, ops read rounded weights, except for full_precision parameters") {
  Model model;
  ParameterStore store({&model.first, &model.norm, &model.last}, {DType::f32, DType::bf16, 7});
  CHECK(model.first.value().dtype() == DType::bf16);
  CHECK(model.first.master().dtype() == DType::f32);
  CHECK(model.first.gradient().dtype() == DType::f32);
  CHECK(model.norm.value().shares_storage(store.master()));
  const auto rounded = [&] {
    return values_of(tensor_of(values_of(model.first.master()), {15}, DType::bf16));
  };
  CHECK(values_of(model.first.value()) == rounded());
  model.first.master().data_as<float>()[3] = 1.2345f;
  CHECK(values_of(model.first.value()) != rounded());
  store.refresh_compute();
  CHECK(values_of(model.first.value()) == rounded());
}

TEST_CASE("with one dtype, master and compute weights share memory") {
  Model model;
  ParameterStore store({&model.first}, {DType::f64, DType::f64, 7});
  CHECK(store.compute().shares_storage(store.master()));
  CHECK(model.first.value().data() == model.first.master().data());
  store.refresh_compute();
}

TEST_CASE(
    "the first write of a step overwrites, later ones accumulate, and unwritten gradients are "
    "zero") {
  Model model;
  ParameterStore store({&model.first, &model.last}, {});
  for (int step = 0; step < 2; ++step) {
    for (float& value : std::span(model.last.gradient().data_as<float>(), 64)) value = NAN;
    GradientStep gradients(store, 0);
    CHECK(model.first.claim_gradient() == 0);
    CHECK(model.first.claim_gradient() == 1);
    CHECK(model.first.claim_gradient() == 1);
    for (float& value : std::span(model.first.gradient().data_as<float>(), 15)) value = 3;
    gradients.finish();
    CHECK(values_of(model.first.gradient()) == std::vector<double>(15, 3));
    CHECK(values_of(model.last.gradient()) == std::vector<double>(64, 0));
  }
}

TEST_CASE("micro-batches of a step add up to the gradient of all") {
  Parameter weight("w", {3, 2}, Init::normal(1));
  ParameterStore store({&weight}, {DType::f64, DType::f64, 1});
  const Tensor x = random_normal("x", {5, 2}, DType::f64),
               dy = random_normal("dy", {5, 3}, DType::f64);
  Tape tape;
  const TapeScope scope(tape);
  const auto run = [&](GradientStep& step, std::int64_t begin, std::int64_t end) {
    step.backward(tape, dot(linear(x.rows(begin, end), weight), dy.rows(begin, end)));
  };
  {
    GradientStep whole(store);
    run(whole, 0, 5);
    whole.finish();
  }
  const auto wanted = values_of(weight.gradient());
  for (int step = 0; step < 2; ++step) {
    GradientStep halves(store, 2);
    run(halves, 0, 2);
    CHECK_THROWS_AS(halves.finish(), InternalError);
    run(halves, 2, 5);
    halves.finish();
    check_close("gradient", weight.gradient(), wanted, {.sum_length = 5});
  }
}

TEST_CASE("hooks fire in the last backward, once per parameter, after its last use") {
  Parameter shared("shared", {2, 2}, Init::normal(1)), once("once", {2, 2}, Init::normal(1));
  ParameterStore store({&shared, &once}, {DType::f64, DType::f64, 1});
  const Tensor x = random_normal("x", {3, 2}, DType::f64);
  std::string fired;
  std::vector<double> at_hook;
  store.set_gradient_hooks({.begin = [&] { fired += "begin "; },
                            .complete =
                                [&](Parameter& parameter) {
                                  fired += parameter.name() + " ";
                                  if (&parameter == &shared)
                                    at_hook = values_of(parameter.gradient());
                                },
                            .finish = [&] { fired += "finish "; }});
  Tape tape;
  const TapeScope scope(tape);
  GradientStep step(store, 2);
  const auto run = [&] {
    const Variable y = linear(linear(linear(x, shared), once), shared);
    step.backward(tape, dot(y, x));
  };
  run();
  CHECK(fired == "begin ");
  run();
  CHECK(fired == "begin once shared ");
  step.finish();
  CHECK(fired == "begin once shared finish ");
  CHECK(at_hook == values_of(shared.gradient()));
}

TEST_CASE("a hook fires for a parameter that the loss does not reach") {
  Parameter weight("weight", {2, 2}, Init::normal(1)),
      unreached("unreached", {2, 2}, Init::normal(1));
  ParameterStore store({&weight, &unreached}, {DType::f64, DType::f64, 1});
  const Tensor x = random_normal("x", {3, 2}, DType::f64);
  std::string fired;
  store.set_gradient_hooks(
      {.complete = [&](Parameter& parameter) { fired += parameter.name() + " "; }});
  Tape tape;
  const TapeScope scope(tape);
  GradientStep step(store);
  linear(x, unreached);
  step.backward(tape, dot(linear(x, weight), x));
  CHECK(fired == "weight unreached ");
}

TEST_CASE("a cleared tape leaves no use pending") {
  Parameter weight("weight", {2, 2}, Init::normal(1));
  ParameterStore store({&weight}, {DType::f64, DType::f64, 1});
  const Tensor x = random_normal("x", {3, 2}, DType::f64);
  int fired = 0;
  store.set_gradient_hooks({.complete = [&](Parameter&) { ++fired; }});
  Tape tape;
  const TapeScope scope(tape);
  linear(x, weight);
  tape.clear();
  {
    GradientStep step(store, 2);
    step.backward(tape, dot(linear(x, weight), x));
    CHECK(fired == 0);
  }
  tape.backward(dot(linear(x, weight), x));
  CHECK(fired == 0);  // the step was abandoned
  GradientStep step(store);
  step.backward(tape, dot(linear(x, weight), x));
  CHECK(fired == 1);
}

TEST_CASE("a store that does not train has zero weights and no gradients") {
  Parameter w("w", {3}, Init::normal(1));
  const ParameterStore store({&w}, {.trains = false});
  CHECK(w.value().to_vector<float>() == std::vector<float>{0, 0, 0});
  CHECK_FALSE(store.gradient().defined());
  CHECK(message_of([&] { w.gradient(); }) == "parameter w: its ParameterStore does not train");
}

TEST_CASE("errors of the store") {
  Parameter weight("weight", {2, 2}, Init::normal(1)), same("weight", {2, 2}, Init::normal(1));
  CHECK_THROWS_WITH_AS(weight.value(), "parameter weight: not in a ParameterStore yet", UsageError);
  CHECK_THROWS_WITH_AS(ParameterStore({&weight, &same}, {}),
                       "parameter_store: two parameters are named weight", UsageError);
  for (const auto& [master, compute] :
       {std::pair{DType::bf16, DType::bf16}, {DType::f64, DType::bf16}, {DType::f32, DType::f64}})
    CHECK_THROWS_AS(ParameterStore({&weight}, {master, compute, 0}), UsageError);
  CHECK_THROWS_WITH_AS(
      Parameter("qkv", {4, 2}, Init::constant(0), {.parts = {{"q", {1, 2}}, {"k", {2, 2}}}}),
      "parameter qkv: its parts hold 6 elements, its shape [4, 2] 8", UsageError);
  Parameter other("other", {1}, Init::constant(0));
  const ParameterStore store({&weight}, {});
  CHECK_THROWS_WITH_AS(ParameterStore({&weight, &other}, {}),
                       "parameter weight: already in a ParameterStore", UsageError);
  // A failed constructor leaves the parameters unchanged.
  CHECK_NOTHROW(ParameterStore({&other}, {}));
}
