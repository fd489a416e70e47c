#include "layers/transformer.h"

#include <doctest/doctest.h>

#include <cmath>

#include "autograd/gradient_step.h"
#include "core/random.h"
#include "kernels/cpu/threads.h"
#include "layers/mixture_of_attention.h"
#include "tests/reference/transformer.h"
#include "tests/support/model_cases.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr std::int64_t kBatch = 3, kSeqLen = 11, kTokens = kBatch * kSeqLen;

ModelConfig config() {
  ModelConfig c = small_model_config();
  c.router.z_loss = 0.003;
  return c;
}

ModelConfig with_attention_mixture(bool output_bias = false) {
  ModelConfig c = config();
  c.attention = small_attention_mixture(output_bias);
  c.mlp.settings["output_bias"] = output_bias;
  return c;
}

reference::TransformerSizes sizes_of(const ModelConfig& c, int batch, int seq_len) {
  const auto i = [](std::int64_t n) { return static_cast<int>(n); };
  const MixtureOfAttention::Settings attention(c.attention.settings);
  return {batch,
          seq_len,
          i(c.vocab_size),
          i(c.num_layers),
          i(c.d_model),
          i(c.num_heads),
          i(c.num_kv_heads),
          i(c.head_dim),
          i(c.num_experts),
          i(c.top_k),
          i(c.d_expert),
          c.rope_theta,
          c.norm_epsilon,
          i(attention.num_experts),
          i(attention.top_k)};
}

// The weights by their Hugging Face names, as ops read them.
reference::Weights weights_of(const ParameterStore& store) {
  reference::Weights weights;
  for (const Parameter* parameter : store.parameters()) {
    std::int64_t at = 0;
    const Tensor flat = parameter->value().reshape({parameter->numel()});
    for (const ParameterPart& part : parameter->parts()) {
      const Tensor piece = flat.view(at, part.shape);
      at += part.shape.numel();
      dispatch_floating(piece.dtype(), [&](auto type) {
        const auto values = piece.to_vector<decltype(type)>();
        weights[part.name] = std::vector<double>(values.begin(), values.end());
      });
    }
  }
  return weights;
}

struct Batch {
  std::vector<std::int32_t> tokens, targets;
  Tensor token_tensor() const { return ids_tensor(tokens); }
  Tensor target_tensor() const { return ids_tensor(targets); }
};

Batch random_batch(const ModelConfig& c) {
  return {random_ids("tokens", kTokens, c.vocab_size),
          random_ids("targets", kTokens, c.vocab_size)};
}

ForwardContext training_context() {
  return {.batch = kBatch, .seq_len = kSeqLen, .is_training = true, .seed = 5, .step = 1};
}

}  // namespace

TEST_CASE("the model's losses and logits match the reference in double") {
  std::vector<ModelConfig> configs{config(), config(), with_attention_mixture()};
  configs[1].tie_embeddings = true;
  for (const ModelConfig& c : configs) {
    for (const DType dtype : {DType::f64, DType::f32}) {
      CAPTURE(c.tie_embeddings);
      CAPTURE(c.attention.kind);
      CAPTURE(name_of(dtype));
      Transformer model(c);
      ParameterStore store(model.parameters(), {dtype, dtype, 3});
      const Batch batch = random_batch(c);
      reference::Vector expected_logits;
      const auto expected = reference::transformer(batch.tokens, batch.targets, weights_of(store),
                                                   sizes_of(c, kBatch, kSeqLen), &expected_logits);

      const ModelLosses losses = model.losses(batch.token_tensor(), batch.target_tensor(),
                                              1.0 / kTokens, 1, training_context());
      const double tolerance = dtype == DType::f64 ? 1e-12 : 2e-6;
      CHECK(losses.cross_entropy.data().item() ==
            doctest::Approx(expected.cross_entropy).epsilon(tolerance));
      CHECK(losses.balance.data().item() == doctest::Approx(expected.balance).epsilon(tolerance));
      CHECK(losses.z.data().item() == doctest::Approx(expected.z).epsilon(tolerance));
      CHECK(losses.total.data().item() ==
            doctest::Approx(expected.cross_entropy + 0.01 * expected.balance + 0.003 * expected.z)
                .epsilon(tolerance));

      const Tensor logits = model.logits(batch.token_tensor(), training_context()).data();
      REQUIRE(logits.shape() == Shape{kTokens, c.vocab_size});
      double worst = 0, largest = 0;
      dispatch_floating(dtype, [&](auto type) {
        const auto got = logits.to_vector<decltype(type)>();
        for (std::size_t i = 0; i < got.size(); ++i) {
          worst = std::max(worst, std::abs(got[i] - expected_logits[i]));
          largest = std::max(largest, std::abs(expected_logits[i]));
        }
      });
      CHECK(worst <= largest * (dtype == DType::f64 ? 1e-12 : 1e-5));
    }
  }
}

namespace {

void check_weight_gradients(ModelConfig c) {
  c.num_layers = 1;
  Transformer model(c);
  ParameterStore store(model.parameters(), {DType::f64, DType::f64, 4});
  const Batch batch = random_batch(c);
  Tape tape;
  {
    const TapeScope scope(tape);
    GradientStep step(store);
    const ModelLosses losses = model.losses(batch.token_tensor(), batch.target_tensor(),
                                            1.0 / kTokens, 1, training_context());
    step.backward(tape, losses.total);
    step.finish();
  }
  reference::Weights weights = weights_of(store);
  const auto loss = [&] {
    const auto l =
        reference::transformer(batch.tokens, batch.targets, weights, sizes_of(c, kBatch, kSeqLen));
    return l.cross_entropy + 0.01 * l.balance + 0.003 * l.z;
  };
  RandomStream random(1, hash_name("elements"));
  for (const Parameter* parameter : store.parameters()) {
    const auto gradient = parameter->gradient().to_vector<double>();
    std::size_t at = 0;
    for (const ParameterPart& part : parameter->parts()) {
      auto& values = weights.at(part.name);
      for (int sample = 0; sample < 4; ++sample) {
        const std::size_t i = random.below(values.size());
        const double original = values[i], step = 1e-5;
        values[i] = original + step;
        const double above = loss();
        values[i] = original - step;
        const double below = loss();
        values[i] = original;
        const double numeric = (above - below) / (2 * step);
        CAPTURE(part.name);
        CAPTURE(i);
        CHECK(std::abs(gradient[at + i] - numeric) <= 1e-6 * std::max(1.0, std::abs(numeric)));
      }
      at += values.size();
    }
  }
}

}  // namespace

TEST_CASE("every weight's gradient matches central differences of the reference model") {
  check_weight_gradients(config());
}

TEST_CASE("the same with a mixture of attention and biases after both mixtures") {
  check_weight_gradients(with_attention_mixture(true));
}

TEST_CASE("gradients are bit-identical for any number of threads") {
  const ModelConfig c = [] {
    ModelConfig changed = config();
    changed.num_shared_experts = 1;
    changed.router.jitter = 0.02;
    return changed;
  }();
  for (const DType compute : {DType::f32, DType::bf16}) {
    std::vector<float> first;
    for (const int threads : {1, 2, 3}) {
      kernels::cpu::set_num_threads(threads);
      Transformer model(c);
      ParameterStore store(model.parameters(), {DType::f32, compute, 4});
      const Batch batch = random_batch(c);
      Tape tape;
      const TapeScope scope(tape);
      GradientStep step(store);
      const ModelLosses losses = model.losses(batch.token_tensor(), batch.target_tensor(),
                                              1.0 / kTokens, 1, training_context());
      step.backward(tape, losses.total);
      step.finish();
      const auto gradient = store.gradient().to_vector<float>();
      for (const float g : gradient) REQUIRE(std::isfinite(g));
      if (first.empty()) first = gradient;
      CHECK(std::memcmp(first.data(), gradient.data(), first.size() * sizeof(float)) == 0);
    }
  }
  kernels::cpu::set_num_threads(2);
}

TEST_CASE("forced plans replace the choice of experts in every layer") {
  const ModelConfig c = config();
  Transformer model(c);
  const ParameterStore store(model.parameters(), {.master = DType::f64, .compute = DType::f64});
  const Tensor tokens = random_batch(c).token_tensor();
  const NoGradScope no_grad;
  std::vector<RoutingPlan> plans;
  const auto logits = [&](const std::vector<RoutingPlan>* forced) {
    plans.clear();
    ForwardContext context = training_context();
    context.forced_routing = forced;
    context.on_routing = [&](std::span<const Routing> layers) {
      for (const Routing& routing : layers) plans.push_back(routing.plan);
    };
    return model.logits(tokens, context).data().to_vector<double>();
  };
  const auto ids_of = [](const RoutingPlan& plan) {
    return plan.expert_ids.to_vector<std::int32_t>();
  };
  const std::vector<double> expected = logits(nullptr);
  const std::vector<RoutingPlan> chosen = plans;
  REQUIRE(chosen.size() == 2);
  CHECK(ids_of(chosen[0]) != ids_of(chosen[1]));
  CHECK(logits(&chosen) == expected);
  const std::vector<RoutingPlan> swapped{chosen[1], chosen[0]};
  CHECK(logits(&swapped) != expected);
  CHECK(ids_of(plans[0]) == ids_of(chosen[1]));
  const std::vector<RoutingPlan> too_few{chosen[0]};
  CHECK_THROWS_WITH_AS(
      logits(&too_few),
      "transformer: forced_routing must have one plan for each of 2 routers; got 1", UsageError);
}

TEST_CASE("parameters have Mixtral's names and lie in reverse order of use") {
  Transformer model(config());
  std::vector<std::string> names;
  for (const Parameter* parameter : model.parameters())
    for (const ParameterPart& part : parameter->parts()) names.push_back(part.name);
  CHECK(names[0] == "model.embed_tokens.weight");
  CHECK(names[1] == "model.layers.0.input_layernorm.weight");
  CHECK(names[2] == "model.layers.0.self_attn.q_proj.weight");
  CHECK(names[7] == "model.layers.0.block_sparse_moe.gate.weight");
  CHECK(names[8] == "model.layers.0.block_sparse_moe.experts.0.w1.weight");
  CHECK(names[9] == "model.layers.0.block_sparse_moe.experts.0.w3.weight");
  CHECK(names.back() == "lm_head.weight");
  ParameterStore store(model.parameters(), {DType::f32, DType::f32, 0});
  CHECK(store.parameters().front()->name() == "lm_head.weight");
  CHECK(store.offset_of(*store.parameters().front()) == 0);
}
