#include "layers/layer_kinds.h"

#include <doctest/doctest.h>

#include <cstring>
#include <optional>

#include "autograd/gradient_step.h"
#include "core/memory.h"
#include "core/state.h"
#include "layers/model_size.h"
#include "layers/transformer.h"
#include "tests/support/compare.h"
#include "tests/support/graphs.h"
#include "tests/support/layer_kinds.h"
#include "tests/support/model_cases.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr std::int64_t kTokens = 22;

ModelConfig adapted_config() {
  register_test_kinds();
  ModelConfig c = small_model_config();
  c.attention.kind = "test_routed";
  c.mlp = {.kind = "test_adapters", .settings = {{"rank", std::int64_t{2}}}};
  c.router.z_loss = 0.01;
  return c;
}

ForwardContext small_context(Recompute recompute = Recompute::none) {
  return {.batch = 2, .seq_len = kTokens / 2, .is_training = true, .recompute = recompute};
}

struct Losses {
  Tensor total, balance, gradient;
};

Losses losses_of(const ModelConfig& c, const ForwardContext& context) {
  Transformer model(c);
  ParameterStore store(model.parameters(), {DType::f64, DType::f64, 4});
  Tape tape;
  const TapeScope scope(tape);
  GradientStep step(store);
  const ModelLosses losses = model.losses(ids_tensor(random_ids("tokens", kTokens, c.vocab_size)),
                                          ids_tensor(random_ids("targets", kTokens, c.vocab_size)),
                                          1.0 / kTokens, 1, context);
  const Losses result{losses.total.data(), losses.balance.data(), store.gradient()};
  step.backward(tape, losses.total);
  step.finish();
  return result;
}

}  // namespace

TEST_CASE("the library's kinds are known; others give an error that lists the known ones") {
  CHECK(layer_kinds(LayerPart::attention)[0].name == "gqa");
  CHECK(layer_kinds(LayerPart::mlp)[0].name == "moe");
  ModelConfig c = small_model_config();
  c.mlp.kind = "lorra";
  try {
    const Transformer model(c);
    FAIL("no error");
  } catch (const UsageError& error) {
    const std::string message = error.what();
    CHECK(message.starts_with("model: the kind of mlp must be one of moe"));
    CHECK(message.find("; got lorra; a program registers kinds of its own") != std::string::npos);
  }
}

TEST_CASE("names of kinds and settings are checked when they are registered") {
  register_test_kinds();
  CHECK_THROWS_WITH_AS(register_mlp<examples::MixtureOfLora>("test_adapters"),
                       "register: there is already a kind of mlp named test_adapters", UsageError);
  CHECK_THROWS_WITH_AS(register_mlp<examples::MixtureOfLora>("Mine"),
                       "register: the name of a kind must be of a-z, 0-9 and _; got 'Mine'",
                       UsageError);
  for (const char* name : {"kind", "a.b", ""})
    CHECK_THROWS_AS(register_mlp<examples::MixtureOfLora>("mine", {{name, 1.0, ""}}), UsageError);
  CHECK_THROWS_AS(register_mlp<examples::MixtureOfLora>("mine", {{"a", 1.0, ""}, {"a", 2.0, ""}}),
                  UsageError);
  CHECK(find_layer_kind(LayerPart::mlp, "mine") == nullptr);
}

TEST_CASE("a registered module gets its settings, and its parameters and routers are the model's") {
  const ModelConfig c = adapted_config();
  const Transformer model(c);
  REQUIRE(model.routers().size() == 6);
  CHECK(model.routers()[0]->name() == "model.layers.0.self_attn.gate");
  CHECK(model.routers()[1]->name() == "model.layers.0.block_sparse_moe.gate");
  CHECK(model.routers()[2]->name() == "model.layers.0.lora.gate");
  CHECK(model.routers()[5]->num_experts() == kNumAdapters);
  const Parameter* b = nullptr;
  for (const Parameter* parameter : model.parameters())
    if (parameter->name() == "model.layers.1.lora.b.weight") b = parameter;
  REQUIRE(b);
  CHECK(b->shape() == Shape{kNumAdapters, c.d_model, 2});
}

TEST_CASE("routers of all modules are counted, balanced and forced alike, and recomputed once") {
  const ModelConfig c = adapted_config();
  std::vector<RoutingPlan> plans;
  std::vector<double> balance;
  ForwardContext context = small_context();
  context.on_routing = [&](std::span<const Routing> routings) {
    for (const Routing& routing : routings) {
      plans.push_back(routing.plan);
      balance.push_back(routing.balance_loss.data().item());
    }
  };
  const Losses chosen = losses_of(c, context);
  REQUIRE(plans.size() == 6);
  CHECK(plans[2].num_experts == kNumAdapters);
  double mean = 0;
  for (const double loss : balance) mean += loss / 6;
  CHECK(chosen.balance.item() == doctest::Approx(mean).epsilon(1e-12));

  const std::vector<RoutingPlan> forced = plans;
  ForwardContext again = small_context();
  again.forced_routing = &forced;
  check_same_bits("forced", losses_of(c, again).gradient, chosen.gradient);
  check_same_bits("recomputed", losses_of(c, small_context(Recompute::block)).gradient,
                  chosen.gradient);
  const std::vector<RoutingPlan> too_few(forced.begin(), forced.begin() + 2);
  again.forced_routing = &too_few;
  CHECK_THROWS_AS(losses_of(c, again), UsageError);
}

TEST_CASE("train_only freezes all other parameters, and the routers among them are not balanced") {
  ModelConfig c = adapted_config();
  c.train_only = "lora";
  Transformer model(c);
  for (const Parameter* parameter : model.parameters())
    CHECK(parameter->trains() == (parameter->name().find("lora") != std::string::npos));
  std::vector<double> balance;
  ForwardContext context = small_context();
  context.on_routing = [&](std::span<const Routing> routings) {
    for (const Routing& routing : routings) balance.push_back(routing.balance_loss.data().item());
  };
  const double mean = losses_of(c, context).balance.item();
  REQUIRE(balance.size() == 6);
  CHECK(mean == doctest::Approx((balance[2] + balance[5]) / 2));
  c.train_only = "norm";
  CHECK(losses_of(c, small_context()).balance.item() == 0);
  c.train_only = "lorra";
  CHECK_THROWS_WITH_AS(Transformer{c},
                       "transformer: train_only must be a part of a parameter's name, as of "
                       "model.layers.1.lora.b.weight; got 'lorra'",
                       UsageError);
}

TEST_CASE("selection biases of frozen routers are part of the base") {
  ModelConfig c = adapted_config();
  c.router.score = RouterScore::sigmoid;
  c.router.selection_bias_rate = 0.1;
  c.train_only = "lora";
  Transformer model(c);
  struct Names : StateVisitor {
    std::vector<std::string> names;
    void tensor(std::string_view name, Tensor&) override { names.emplace_back(name); }
    void integer(std::string_view, std::int64_t&) override {}
    void real(std::string_view, double&) override {}
  } state, base;
  model.visit_state(state);
  model.visit_frozen(base);
  CHECK(state.names == std::vector<std::string>{"model.layers.0.lora.gate.selection_bias",
                                                "model.layers.1.lora.gate.selection_bias"});
  CHECK(base.names.size() == 4);
}

TEST_CASE("sizes and FLOPs count registered modules, and weights that are not trained") {
  ModelConfig c = adapted_config();
  const std::int64_t adapter = 2 * c.d_model, adapters = kNumAdapters;
  for (const char* only : {"", "lora", "layers.1.lora"}) {
    c.train_only = only;
    const Transformer model(c);
    ModelSize wanted;
    for (const Parameter* parameter : model.parameters()) {
      wanted.total += parameter->numel();
      if (parameter->trains()) wanted.trained += parameter->numel();
    }
    CHECK(model_size(c).total == wanted.total);
    CHECK(model_size(c).trained == wanted.trained);
    const std::int64_t idle_experts = 3 * c.d_model * c.d_expert * (c.num_experts - c.top_k);
    CHECK(model_size(c).active == wanted.total - c.vocab_size * c.d_model -
                                      c.num_layers * (idle_experts + 2 * adapter * (adapters - 1)));
    const TokenFlops flops = flops_per_token(c, 10);
    CHECK(flops.training() == 3 * flops.forward() - flops.frozen);
  }
  c.train_only = "lora.a";
  const TokenFlops flops = flops_per_token(c, 10);
  CHECK(flops.weights - flops.frozen == 2.0 * static_cast<double>(c.num_layers * adapter));
}
