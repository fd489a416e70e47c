#include "autograd/parameter_store.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "autograd/gradient_step.h"
#include "autograd/ops.h"
#include "core/state.h"
#include "kernels/elementwise.h"
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
  CHECK(store.compute().numel() == 192);
  CHECK(store.gradient().numel() == 192);
  CHECK(model.norm.gradient().shares_storage(store.gradient()));
  CHECK(model.norm.gradient().data() == store.gradient().data_as<float>() + 64);
  CHECK(model.norm.master().shape() == Shape{5});
  Parameter stranger("stranger", {1}, Init::constant(0));
  CHECK_THROWS_WITH_AS(store.offset_of(stranger), "parameter_store: stranger is not in this store",
                       UsageError);
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
  Model model, same;
  ParameterStore store({&model.first, &model.norm, &model.last}, {DType::f32, DType::bf16, 7});
  ParameterStore whole({&same.first, &same.norm, &same.last}, {DType::f32, DType::f32, 7});
  CHECK(model.first.value().dtype() == DType::bf16);
  CHECK(model.first.gradient().dtype() == DType::f32);
  CHECK(model.norm.value().dtype() == DType::f32);
  CHECK(model.norm.value().shares_storage(store.full_precision()));
  CHECK(store.full_precision().numel() == 64);
  check_same_bits("first", model.first.master(), same.first.master());
  check_same_bits("norm", model.norm.master(), same.norm.master());
  check_same_bits("last", model.last.master(), same.last.master());
  CHECK(values_of(model.first.value()) ==
        values_of(tensor_of(values_of(same.first.value()), {15}, DType::bf16)));
}

TEST_CASE("gradients are bf16 on request where ops read bf16, otherwise of the master dtype") {
  const auto dtype_with = [](DType master, DType compute, DType gradients) {
    Model model;
    const ParameterStore store(
        {&model.first, &model.norm},
        {.master = master, .compute = compute, .seed = 7, .trains = true, .gradients = gradients});
    CHECK(store.gradient().dtype() == store.gradient_dtype());
    CHECK(model.norm.gradient().dtype() == model.norm.gradient_dtype());
    CHECK(model.norm.gradient().shares_storage(store.gradient()));
    return store.gradient_dtype();
  };
  CHECK(dtype_with(DType::f32, DType::bf16, DType::bf16) == DType::bf16);
  CHECK(dtype_with(DType::f32, DType::bf16, DType::f32) == DType::f32);
  CHECK(dtype_with(DType::f64, DType::f64, DType::f32) == DType::f64);
  CHECK_THROWS_WITH_AS(
      dtype_with(DType::f32, DType::f32, DType::bf16),
      "parameter_store: gradients must be f32, or bf16 with compute in bf16; got bf16 with f32",
      UsageError);
}

TEST_CASE("a bf16 gradient that no op writes is zero") {
  Parameter weight("w", {8, 8}, Init::normal(2));
  ParameterStore store({&weight}, {.master = DType::f32,
                                   .compute = DType::bf16,
                                   .seed = 7,
                                   .trains = true,
                                   .gradients = DType::bf16});
  kernels::fill(launch(), {weight.gradient().data(), DType::bf16, weight.numel(), NAN});
  GradientStep(store, 0).finish();
  CHECK(values_of(weight.gradient()) == std::vector<double>(64, 0));
}

TEST_CASE("a store holds the remainders of its own elements, and visits those") {
  Model model, same;
  const std::vector<Range> own = {{10, 20}, {60, 140}};  // last is 0-64, norm 64-69, first 128-143
  ParameterStore store({&model.first, &model.norm, &model.last}, {.master = DType::f32,
                                                                  .compute = DType::bf16,
                                                                  .seed = 7,
                                                                  .trains = true,
                                                                  .own = [&](std::int64_t numel) {
                                                                    CHECK(numel == 192);
                                                                    return own;
                                                                  }});
  ParameterStore whole({&same.first, &same.norm, &same.last}, {DType::f32, DType::f32, 7});
  CHECK(store.num_own() == 90);
  CHECK(store.remainders().numel() == 90);
  check_same_bits("rounded", model.last.value(),
                  tensor_of(values_of(same.last.value()), {8, 8}, DType::bf16));
  struct Visit {
    std::string name;
    std::int64_t begin;
    std::vector<double> values;
  };
  struct Ranges : StateVisitor {
    std::vector<Visit> visits;
    void tensor(std::string_view, Tensor&) override { FAIL("not a range"); }
    void range(std::string_view name, const Shape&, std::int64_t begin, Tensor& elements) override {
      visits.push_back({std::string(name), begin, values_of(elements)});
    }
    void integer(std::string_view, std::int64_t&) override {}
    void real(std::string_view, double&) override {}
  } ranges;
  store.visit_state(ranges);
  const struct {
    const char* name;
    const Parameter& parameter;
    std::int64_t begin, end;
  } wanted[] = {{"last", same.last, 10, 20},
                {"last", same.last, 60, 64},
                {"norm", same.norm, 0, 5},
                {"first", same.first, 0, 12}};
  REQUIRE(ranges.visits.size() == std::size(wanted));
  for (std::size_t i = 0; i < std::size(wanted); ++i) {
    const auto& [name, parameter, begin, end] = wanted[i];
    const std::vector<double> masters = values_of(parameter.master());
    CHECK(ranges.visits[i].name == name);
    CHECK(ranges.visits[i].begin == begin);
    CHECK(ranges.visits[i].values ==
          std::vector<double>(masters.begin() + begin, masters.begin() + end));
  }
  // What a visitor writes is kept, split anew; a parameter of which nothing is own is still named.
  const Tensor state = Tensor::zeros({90}, DType::f32);
  store.visit_own(ranges, "m/", state);
  CHECK(ranges.visits.back().name == "m/first");
  CHECK(ranges.visits.back().values.size() == 12);
}

TEST_CASE("what a visitor writes to split masters is kept in all bits") {
  Model model;
  ParameterStore store({&model.first, &model.norm, &model.last}, {DType::f32, DType::bf16, 7});
  struct Write : StateVisitor {
    void tensor(std::string_view, Tensor& value) override {
      for (std::int64_t i = 0; i < value.numel(); ++i)
        value.data_as<float>()[i] = 1.2345f + static_cast<float>(i) * 1e-6f;
    }
    void integer(std::string_view, std::int64_t&) override {}
    void real(std::string_view, double&) override {}
  } write;
  store.visit_state(write);
  for (const Parameter* parameter : store.parameters()) {
    const auto masters = parameter->master().to_vector<float>();
    for (std::size_t i = 0; i < masters.size(); ++i)
      CHECK(masters[i] == 1.2345f + static_cast<float>(i) * 1e-6f);
  }
}

TEST_CASE("with one dtype, ops read the master weights") {
  Model model;
  ParameterStore store({&model.first}, {DType::f64, DType::f64, 7});
  CHECK(model.first.value().data() == model.first.master().data());
  CHECK(!store.remainders().defined());
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
