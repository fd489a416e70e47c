#include "layers/transformer.h"

#include <doctest/doctest.h>

#include <cmath>

#include "autograd/parameter_store.h"
#include "autograd/tape.h"
#include "core/random.h"
#include "kernels/cpu/thread_pool.h"
#include "tests/reference/transformer.h"

using namespace smoe;

namespace {

ModelConfig small_config() {
  ModelConfig c;
  c.vocab_size = 29;
  c.num_layers = 2;
  c.d_model = 24;
  c.num_heads = 4;
  c.num_kv_heads = 2;
  c.head_dim = 6;
  c.d_expert = 20;
  c.num_experts = 5;
  c.top_k = 2;
  c.router.z_loss = 0.003;
  return c;
}

reference::TransformerSizes sizes_of(const ModelConfig& c, int batch, int seq_len) {
  const auto i = [](std::int64_t n) { return static_cast<int>(n); };
  return {batch,          seq_len,           i(c.vocab_size), i(c.num_layers),  i(c.d_model),
          i(c.num_heads), i(c.num_kv_heads), i(c.head_dim),   i(c.num_experts), i(c.top_k),
          i(c.d_expert),  c.rope_theta,      c.norm_epsilon};
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
  Tensor token_tensor() const {
    return Tensor::from(tokens, {static_cast<std::int64_t>(tokens.size())});
  }
  Tensor target_tensor() const {
    return Tensor::from(targets, {static_cast<std::int64_t>(targets.size())});
  }
};

Batch random_batch(const ModelConfig& c, std::int64_t num_tokens) {
  RandomStream random(7, hash_name("batch"));
  Batch batch;
  for (std::int64_t t = 0; t < num_tokens; ++t) {
    batch.tokens.push_back(static_cast<std::int32_t>(random.below(c.vocab_size)));
    batch.targets.push_back(static_cast<std::int32_t>(random.below(c.vocab_size)));
  }
  return batch;
}

constexpr std::int64_t kBatch = 3, kSeqLen = 11, kTokens = kBatch * kSeqLen;

ForwardContext training_context() {
  return {.batch = kBatch, .seq_len = kSeqLen, .is_training = true, .seed = 5, .step = 1};
}

}  // namespace

TEST_CASE("the model's losses and logits match naive double loops") {
  for (const bool tied : {false, true}) {
    ModelConfig c = small_config();
    c.tie_embeddings = tied;
    for (const DType dtype : {DType::f64, DType::f32}) {
      CAPTURE(tied);
      CAPTURE(name_of(dtype));
      Transformer model(c);
      ParameterStore store(model.parameters(), {dtype, dtype, 3});
      const Batch batch = random_batch(c, kTokens);
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

TEST_CASE("every weight's gradient matches central differences of the reference model") {
  ModelConfig c = small_config();
  c.num_layers = 1;
  Transformer model(c);
  ParameterStore store(model.parameters(), {DType::f64, DType::f64, 4});
  const Batch batch = random_batch(c, kTokens);
  Tape tape;
  {
    const TapeScope scope(tape);
    store.begin_step();
    const ModelLosses losses = model.losses(batch.token_tensor(), batch.target_tensor(),
                                            1.0 / kTokens, 1, training_context());
    tape.backward(losses.total);
    store.finish_gradients();
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
        const double kept = values[i], step = 1e-5;
        values[i] = kept + step;
        const double above = loss();
        values[i] = kept - step;
        const double below = loss();
        values[i] = kept;
        const double numeric = (above - below) / (2 * step);
        CAPTURE(part.name);
        CAPTURE(i);
        CHECK(std::abs(gradient[at + i] - numeric) <= 1e-6 * std::max(1.0, std::abs(numeric)));
      }
      at += values.size();
    }
  }
}

TEST_CASE("gradients do not depend on the thread count, bit for bit") {
  const ModelConfig c = [] {
    ModelConfig config = small_config();
    config.num_shared_experts = 1;
    config.router.jitter = 0.02;
    return config;
  }();
  for (const DType compute : {DType::f32, DType::bf16}) {
    std::vector<float> first;
    for (const int threads : {1, 2, 3}) {
      kernels::cpu::set_num_threads(threads);
      Transformer model(c);
      ParameterStore store(model.parameters(), {DType::f32, compute, 4});
      const Batch batch = random_batch(c, kTokens);
      Tape tape;
      const TapeScope scope(tape);
      store.begin_step();
      tape.backward(model
                        .losses(batch.token_tensor(), batch.target_tensor(), 1.0 / kTokens, 1,
                                training_context())
                        .total);
      store.finish_gradients();
      const auto gradient = store.gradient().to_vector<float>();
      for (const float g : gradient) REQUIRE(std::isfinite(g));
      if (first.empty()) first = gradient;
      CHECK(std::memcmp(first.data(), gradient.data(), first.size() * sizeof(float)) == 0);
    }
  }
  kernels::cpu::set_num_threads(2);
}

TEST_CASE("a model follows the experts it is given, in every layer, until it is given none") {
  const ModelConfig c = small_config();
  Transformer model(c);
  const ParameterStore store(model.parameters(), {.master = DType::f64, .compute = DType::f64});
  const Tensor tokens = random_batch(c, kTokens).token_tensor();
  const auto ids_of = [&] {
    std::vector<std::vector<std::int32_t>> ids;
    for (const Tensor& layer : model.expert_ids(tokens, training_context()))
      ids.push_back(layer.to_vector<std::int32_t>());
    return ids;
  };
  const auto logits = [&] {
    const NoGradScope no_grad;
    return model.logits(tokens, training_context()).data().to_vector<double>();
  };
  const std::vector<Tensor> chosen = model.expert_ids(tokens, training_context());
  const auto chosen_ids = ids_of();
  const std::vector<double> wanted = logits();
  REQUIRE(chosen.size() == 2);
  CHECK(chosen_ids[0] != chosen_ids[1]);
  model.follow(chosen);
  CHECK(logits() == wanted);
  model.follow({chosen[1], chosen[0]});
  CHECK(ids_of() == std::vector{chosen_ids[1], chosen_ids[0]});
  CHECK(logits() != wanted);
  model.follow({});
  CHECK(logits() == wanted);
  CHECK_THROWS_WITH_AS(model.follow({chosen[0]}),
                       "transformer: to follow, give the experts of all 2 layers; got 1",
                       UsageError);
}

TEST_CASE("parameters carry Mixtral's names and lie in reverse order of use") {
  Transformer model(small_config());
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
