// Router, ParallelLinear and MoE: an expert module built from the public layers must match the
// fused one.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "autograd/gradient_step.h"
#include "layers/moe.h"
#include "layers/parallel_linear.h"
#include "layers/router_stats.h"
#include "tests/support/compare.h"
#include "tests/support/model_cases.h"
#include "tests/support/tensors.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr std::int64_t kTokens = 21;

ModelConfig one_layer(Activation activation) {
  ModelConfig c = small_model_config();
  c.num_layers = 1;
  c.d_model = 12;
  c.d_expert = 10;
  c.activation = activation;
  return c;
}

ForwardContext context() {
  return {.batch = 1, .seq_len = kTokens, .is_training = true};
}

// Two ParallelLinears with an activation between them, holding the same weights as a MoE.
struct UnfusedExperts : Module {
  UnfusedExperts(const ModelConfig& c)
      : activation_(c.activation),
        up("up", c.num_experts, c.d_model, (is_gated(c.activation) ? 2 : 1) * c.d_expert, 1, {}),
        down("down", c.num_experts, c.d_expert, c.d_model, 1, {.input = RowLayout::grouped}) {
    own(up);
    own(down);
  }
  Variable forward(const Variable& x, const Routing& routing) {
    return down.forward(activation(up.forward(x, routing.plan), activation_), routing.plan,
                        routing.gates);
  }
  Activation activation_;
  ParallelLinear up, down;
};

void copy(const Tensor& from, const Tensor& to) {
  std::memcpy(to.data(), from.data(), static_cast<std::size_t>(from.bytes()));
}

}  // namespace

TEST_CASE("ParallelLinears with an activation between them are the fused experts") {
  for (const Activation kind : {Activation::swiglu, Activation::relu2}) {
    const ModelConfig c = one_layer(kind);
    MoE fused("moe", c);
    UnfusedExperts unfused(c);
    ParameterStore fused_store(fused.parameters(), {DType::f64, DType::f64, 9});
    ParameterStore unfused_store(unfused.parameters(), {DType::f64, DType::f64, 9});
    copy(fused.parameters()[1]->value(), unfused.up.weight().value());
    copy(fused.parameters()[2]->value(), unfused.down.weight().value());
    const Tensor x = random_normal("x", {kTokens, c.d_model}, DType::f64);
    const Tensor weights = random_normal("weights", {kTokens, c.d_model}, DType::f64);

    const auto run = [&](ParameterStore& store, auto&& forward) {
      Tape tape;
      const TapeScope scope(tape);
      const Variable input = tape.watch(x);
      const GradientStep step(store);
      const Variable y = forward(input);
      const auto values = values_of(y.data()), scales = values_of(weights);
      double sum = 0;
      for (std::size_t i = 0; i < values.size(); ++i) sum += values[i] * scales[i];
      const Variable loss = record(
          "dot", tensor_of({sum}, {1}, DType::f64), {&y}, {},
          [&](Tensor, InputGradients& out) { out.give(0, weights.clone(Category::activations)); });
      return std::pair(y.data(), tape.backward(loss).of(input));
    };
    const auto [y, dx] =
        run(fused_store, [&](const Variable& in) { return fused.forward(in, context()).y; });
    const auto [other_y, other_dx] = run(unfused_store, [&](const Variable& in) {
      return unfused.forward(in, fused.router().forward(in, context()));
    });
    check_close("y", other_y, values_of(y), {.sum_length = 40});
    check_close("dx", other_dx, values_of(dx), {.sum_length = 400});
    check_close("dw1", unfused.up.weight().gradient(), values_of(fused.parameters()[1]->gradient()),
                {.sum_length = 400});
    check_close("dw2", unfused.down.weight().gradient(),
                values_of(fused.parameters()[2]->gradient()), {.sum_length = 400});
  }
}

TEST_CASE("router statistics add up over micro-batches, and the bias moves rows to idle experts") {
  ModelConfig c = one_layer(Activation::swiglu);
  c.router.score = RouterScore::sigmoid;
  c.router.selection_bias_rate = 0.05;
  Router router("gate", c);
  ParameterStore store(router.parameters(), {DType::f32, DType::f32, 2});
  // All tokens are equal: without the bias all go to the same two experts.
  const Tensor x =
      tensor_of(std::vector<double>(kTokens * c.d_model, 0.3), {kTokens, c.d_model}, DType::f32);
  RouterStats stats({c.num_experts});
  std::vector<std::int64_t> total(5, 0);
  for (int step = 0; step < 200; ++step) {
    const Routing routing = router.forward(x, context());
    for (int micro_batch = 0; micro_batch < 2; ++micro_batch) stats.add({&routing, 1});
    const auto load = stats.expert_load(0).to_vector<double>();
    CHECK(std::count(load.begin(), load.end(), 2 * kTokens) == 2);
    const auto totals = stats.totals().to_vector<double>();
    CHECK(totals[5] == 2 * routing.balance_loss.data().item());
    CHECK(totals[6] == 2 * routing.z_loss.data().item());
    for (int e = 0; e < 5; ++e) total[e] += static_cast<std::int64_t>(load[e]);
    // As update_selection_bias does.
    for (int e = 0; e < 5; ++e)
      router.selection_bias().data_as<float>()[e] += load[e] > 2 * kTokens * 2 / 5 ? -0.05f : 0.05f;
    stats.clear();
  }
  // Once the bias has equalized the scores, the experts alternate.
  for (const std::int64_t rows : total) CHECK(rows > 200 * 2 * kTokens * 2 / 5 / 2);
}

TEST_CASE("jitter applies only in training, with the random numbers of the step") {
  ModelConfig c = one_layer(Activation::swiglu);
  c.router.jitter = 0.1;
  Router router("gate", c);
  ParameterStore store(router.parameters(), {DType::f32, DType::f32, 2});
  const Tensor x = random_normal("x", {kTokens, c.d_model}, DType::f32);
  const auto gates = [&](bool is_training, std::int64_t step) {
    ForwardContext now = context();
    now.is_training = is_training;
    now.step = step;
    return values_of(router.forward(x, now).gates.data());
  };
  CHECK(gates(false, 0) == gates(false, 1));
  CHECK(gates(true, 0) != gates(false, 0));
  CHECK(gates(true, 0) == gates(true, 0));
  CHECK(gates(true, 0) != gates(true, 1));
}
