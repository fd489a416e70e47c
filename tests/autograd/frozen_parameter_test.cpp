// Parameters that are not trained: in the store, and in every op that reads parameters.
#include <doctest/doctest.h>

#include <functional>
#include <memory>

#include "autograd/gradient_step.h"
#include "autograd/ops.h"
#include "core/memory.h"
#include "core/state.h"
#include "tests/support/compare.h"
#include "tests/support/gradients.h"
#include "tests/support/graphs.h"
#include "tests/support/moe_cases.h"

using namespace smoe;
using namespace smoe::test;

namespace {

Parameter::Options frozen_if(bool is_frozen, Parameter::Options options = {}) {
  options.trains = !is_frozen;
  return options;
}

struct Names : StateVisitor {
  std::vector<std::string> names;
  std::vector<Tensor> tensors;
  void tensor(std::string_view name, Tensor& value) override {
    names.emplace_back(name);
    tensors.push_back(value);
  }
  void integer(std::string_view, std::int64_t&) override {}
  void real(std::string_view, double&) override {}
};

// An op of one input and some parameters, each of which may be frozen.
struct OpCase {
  const char* name;
  Shape x;
  std::vector<std::pair<Shape, bool>> parameters;  // and whether it is full_precision
  std::function<Variable(const Variable& x, std::vector<std::unique_ptr<Parameter>>& p)> run;
};

constexpr std::int64_t kTokens = 6, kExperts = 3, kTopK = 2, kWidth = 8;

RoutingPlan plan() {
  return plan_of({0, 1, 2, 0, 0, 2, 1, 0, 0, 1, 2, 1}, kTopK, kExperts);
}

Variable gates(DType dtype) {
  return random_normal("gates", {kTokens, kTopK}, accumulation_dtype(dtype));
}

std::vector<OpCase> op_cases() {
  const Shape x{kTokens, kWidth}, rows{kTokens * kTopK, kWidth};
  const std::vector<std::pair<Shape, bool>> projection = {{{kExperts, 5, kWidth}, false},
                                                          {{kExperts, 5}, false}};
  const auto mlp = [](bool recompute) {
    return [recompute](const Variable& in, auto& p) {
      return moe_mlp(in, gates(in.dtype()), plan(), *p[0], *p[1], Activation::swiglu, recompute);
    };
  };
  const std::vector<std::pair<Shape, bool>> experts = {{{kExperts, 2, 5, kWidth}, false},
                                                       {{kExperts, kWidth, 5}, false}};
  return {
      {"linear",
       x,
       {{{5, kWidth}, false}},
       [](const Variable& in, auto& p) { return linear(in, *p[0]); }},
      {"linear, full precision",
       x,
       {{{5, kWidth}, true}},
       [](const Variable& in, auto& p) { return linear(in, *p[0]); }},
      {"rms_norm",
       x,
       {{{kWidth}, true}},
       [](const Variable& in, auto& p) { return rms_norm(in, *p[0], 1e-5); }},
      {"add_rms_norm",
       x,
       {{{kWidth}, true}, {{5, kWidth}, false}},
       [](const Variable& in, auto& p) {
         const ResidualNorm norm = add_rms_norm(in, scale(in, 0.5), *p[0], 1e-5);
         return linear(add(norm.sum, norm.normed), *p[1]);
       }},
      {"norm, then router and experts",
       x,
       {{{kWidth}, true}, {{kExperts, kWidth}, true}, experts[0], experts[1]},
       [](const Variable& in, auto& p) {
         const Variable normed = rms_norm(in, *p[0], 1e-5);
         const Routing routing = route(linear(normed, *p[1]), RouterScore::softmax_topk, plan());
         return moe_mlp(normed, routing.gates, routing.plan, *p[2], *p[3], Activation::swiglu);
       }},
      {"parallel_linear", x, projection,
       [](const Variable& in, auto& p) {
         return parallel_linear(in, *p[0], plan(), {.bias = p[1].get()});
       }},
      {"parallel_linear, scattered", rows, projection,
       [](const Variable& in, auto& p) {
         return parallel_linear(in, *p[0], plan(),
                                {.output = RowLayout::scattered, .bias = p[1].get()});
       }},
      {"parallel_linear with gates", rows, projection,
       [](const Variable& in, auto& p) {
         return parallel_linear(in, *p[0], plan(),
                                {.input = RowLayout::grouped, .bias = p[1].get()},
                                gates(in.dtype()));
       }},
      {"moe_mlp", x, experts, mlp(false)},
      {"moe_mlp, recomputed", x, experts, mlp(true)},
      {"lm_head_loss",
       x,
       {{{11, kWidth}, false}},
       [](const Variable& in, auto& p) {
         return lm_head_loss(in, *p[0], Tensor::from(std::vector{3, -1, 0, 10, 7, 7}, {kTokens}),
                             0.5, 4);
       }},
  };
}

// The gradients of the input and of the parameters that are not in the set `frozen` of bits.
struct Gradients {
  Tensor y, dx;
  std::vector<Tensor> dw;  // undefined for a frozen one
};

Gradients gradients_of(const OpCase& test, DType dtype, unsigned frozen) {
  std::vector<std::unique_ptr<Parameter>> parameters;
  std::vector<Parameter*> pointers;
  for (std::size_t i = 0; i < test.parameters.size(); ++i) {
    const auto& [shape, is_full] = test.parameters[i];
    parameters.push_back(
        std::make_unique<Parameter>("p" + std::to_string(i), shape, Init::normal(0.7),
                                    frozen_if(frozen >> i & 1, {.full_precision = is_full})));
    pointers.push_back(parameters.back().get());
  }
  ParameterStore store(pointers,
                       {.master = accumulation_dtype(dtype), .compute = dtype, .seed = 4});
  Tape tape;
  const TapeScope scope(tape);
  GradientStep step(store);
  const Variable x = tape.watch(random_normal("x", test.x, dtype));
  const Variable y = test.run(scale(x, 1), parameters);
  const Variable loss =
      y.shape() == Shape{1} ? y : dot(y, random_normal("dy", y.shape(), y.dtype()));
  Gradients result{y.data().clone(Category::activations), {}, {}};
  result.dx = step.backward(tape, loss).of(x);
  step.finish();
  for (const auto& parameter : parameters)
    result.dw.push_back(parameter->trains() ? parameter->gradient().clone(Category::activations)
                                            : Tensor());
  return result;
}

}  // namespace

TEST_CASE("frozen parameters lie behind the others, without gradients, remainders or moments") {
  Parameter first("first", {3, 5}, Init::normal(0.5), frozen_if(true)),
      norm("norm", {5}, Init::constant(1), {.decays = false, .full_precision = true}),
      base_norm("base_norm", {7}, Init::constant(2),
                frozen_if(true, {.decays = false, .full_precision = true})),
      last("last", {8, 8}, Init::normal(2));
  Parameter same("first", {3, 5}, Init::normal(0.5));
  const std::int64_t before = memory_use(Category::gradients).now_bytes;
  ParameterStore store({&first, &norm, &base_norm, &last}, {.master = DType::f32,
                                                            .compute = DType::bf16,
                                                            .seed = 7,
                                                            .trains = true,
                                                            .own = [](std::int64_t numel) {
                                                              CHECK(numel == 128);
                                                              return std::vector<Range>{{0, 70}};
                                                            }});
  const ParameterStore trained({&same}, {DType::f32, DType::bf16, 7});
  CHECK(store.gradient().numel() == 128);
  CHECK(memory_use(Category::gradients).now_bytes - before == 4 * (128 + 64));
  CHECK(store.remainders().numel() == 70);
  CHECK(store.compute().numel() == 256);
  REQUIRE(store.trained().size() == 2);
  CHECK(store.trained()[0] == &last);
  CHECK(store.trained()[1] == &norm);
  REQUIRE(store.frozen().size() == 2);
  CHECK(store.frozen()[0] == &base_norm);
  CHECK(store.offset_of(base_norm) == 128);
  CHECK(store.offset_of(first) == 192);
  CHECK_THROWS_WITH_AS(first.gradient(),
                       "parameter first: has no gradient, since it is not trained", UsageError);
  CHECK_THROWS_WITH_AS(last.freeze(), "parameter last: is already in a ParameterStore", UsageError);
  // The values are those of a trained one, as ops read them.
  check_same_bits("first", first.value(), same.value());
  CHECK(values_of(first.master()) == values_of(same.value()));
  CHECK(values_of(base_norm.value()) == std::vector<double>(7, 2));
  Names state, frozen;
  store.visit_state(state);
  store.visit_own(state, "m/", Tensor::zeros({70}, DType::f32));
  CHECK(state.names == std::vector<std::string>{"last", "norm", "m/last", "m/norm"});
  store.visit_frozen(frozen);
  CHECK(frozen.names == std::vector<std::string>{"base_norm", "first"});
  CHECK(frozen.tensors[0].dtype() == DType::f32);
  CHECK(frozen.tensors[1].dtype() == DType::f32);
  CHECK(frozen.tensors[1].shape() == Shape{3, 5});
  // What is written is rounded as the weights of trained masters are, ties included.
  struct Write : StateVisitor {
    void tensor(std::string_view, Tensor& value) override {
      for (std::int64_t i = 0; i < value.numel(); ++i)
        value.data_as<float>()[i] = 1 + static_cast<float>(i) * 0x1p-8f;
    }
    void integer(std::string_view, std::int64_t&) override {}
    void real(std::string_view, double&) override {}
  } write;
  Parameter tied("first", {3, 5}, Init::normal(0.5));
  ParameterStore ties({&tied}, {DType::f32, DType::bf16, 7});
  store.visit_frozen(write);
  ties.visit_state(write);
  check_same_bits("written", first.value(), tied.value());
}

TEST_CASE("a store that does not train still draws what is frozen") {
  Parameter base("base", {3, 5}, Init::normal(0.5), frozen_if(true)), w("w", {4}, Init::normal(1));
  Parameter same("base", {3, 5}, Init::normal(0.5));
  const ParameterStore store({&base, &w}, {.seed = 7, .trains = false});
  const ParameterStore trained({&same}, {.seed = 7});
  check_same_bits("base", base.value(), same.value());
  CHECK(values_of(w.value()) == std::vector<double>(4, 0));
}

TEST_CASE("the gradients beside a frozen parameter keep all their bits") {
  const PoisonGuard poison;
  for (const OpCase& test : op_cases())
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      CAPTURE(test.name);
      const Gradients all = gradients_of(test, dtype, 0);
      for (unsigned frozen = 1; frozen < 1U << test.parameters.size(); ++frozen) {
        CAPTURE(frozen);
        const Gradients some = gradients_of(test, dtype, frozen);
        check_same_bits("y", some.y, all.y);
        check_same_bits("dx", some.dx, all.dx);
        for (std::size_t i = 0; i < all.dw.size(); ++i)
          if (!(frozen >> i & 1)) check_same_bits("dw", some.dw[i], all.dw[i]);
      }
    }
}

TEST_CASE("gradients around frozen parameters agree with central differences") {
  for (const OpCase& test : op_cases()) {
    std::vector<std::unique_ptr<Parameter>> parameters;
    std::vector<Parameter*> pointers;
    for (std::size_t i = 0; i < test.parameters.size(); ++i) {
      parameters.push_back(std::make_unique<Parameter>(
          "p" + std::to_string(i), test.parameters[i].first, Init::normal(0.7),
          frozen_if(i == 0, {.full_precision = test.parameters[i].second})));
      pointers.push_back(parameters.back().get());
    }
    ParameterStore store(pointers, {DType::f64, DType::f64, 4});
    if (std::string(test.name) == "lm_head_loss")
      continue;  // reaches the loss with weight one only
    check_gradients(
        test.name,
        [&](const std::vector<Variable>& in) {
          return std::vector{test.run(scale(in[0], 1), parameters)};
        },
        {random_normal("x", test.x, DType::f64)}, &store);
  }
}

TEST_CASE("an op of frozen parameters keeps no input, and without a gradient is not recorded") {
  Parameter w("w", {16, 24}, Init::normal(1), frozen_if(true)),
      e("e", {4, 16, 24}, Init::normal(1), frozen_if(true)),
      w1("w1", {4, 2, 16, 24}, Init::normal(1), frozen_if(true)),
      w2("w2", {4, 24, 16}, Init::normal(1), frozen_if(true)),
      table("table", {9, 24}, Init::normal(1), frozen_if(true)),
      norm("norm", {24}, Init::constant(1), frozen_if(true, {.full_precision = true}));
  ParameterStore store({&w, &e, &w1, &w2, &table, &norm}, {});
  const MoeCase test{40, 2, 4, 24, 16};
  const RoutingPlan routing = test.plan();
  const Tensor ids = Tensor::from(std::vector<std::int32_t>(40, 3), {40});
  Tape tape;
  const TapeScope scope(tape);
  const Variable gate = random_normal("gates", {40, 2}, DType::f32);
  {
    const Variable x = embedding(ids, table);
    const Variable y = linear(rms_norm(x, norm, 1e-5), w);
    moe_mlp(x, gate, routing, w1, w2, Activation::swiglu);
    parallel_linear(x, e, routing);
    CHECK(!y.requires_grad());
    CHECK(tape.size() == 0);
  }
  const Variable source = tape.watch(random_normal("x", {40, 24}, DType::f32));
  const auto saved_by = [&](const std::function<Variable(const Variable&)>& op) {
    Variable x = copy_of(source);
    const std::int64_t before = memory_use(Category::activations).now_bytes - x.data().bytes();
    const Variable y = op(x);
    x = Variable();
    const std::int64_t output = y.data().bytes();  // sums its rows, if it is not summed yet
    return memory_use(Category::activations).now_bytes - before - output;
  };
  CHECK(saved_by([&](const Variable& x) { return linear(x, w); }) == 0);
  CHECK(saved_by([&](const Variable& x) { return parallel_linear(x, e, routing); }) == 0);
  // Pre-activations alone.
  CHECK(saved_by([&](const Variable& x) {
          return moe_mlp(x, gate, routing, w1, w2, Activation::swiglu);
        }) == 4 * 80 * 2 * 16);
}

TEST_CASE("hooks fire for trained parameters only") {
  Parameter base("base", {2, 2}, Init::normal(1), frozen_if(true)), w("w", {2, 2}, Init::normal(1));
  ParameterStore store({&base, &w}, {DType::f64, DType::f64, 1});
  std::string fired;
  store.set_gradient_hooks({.complete = [&](Parameter& p) { fired += p.name() + " "; }});
  const Tensor x = random_normal("x", {3, 2}, DType::f64);
  Tape tape;
  const TapeScope scope(tape);
  GradientStep step(store);
  step.backward(tape, dot(linear(linear(linear(x, base), w), base), x));
  step.finish();
  CHECK(fired == "w ");
}
