// Recompute changes what is kept between forward and backward, and not one bit of the result.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "autograd/gradient_step.h"
#include "core/device.h"
#include "core/memory.h"
#include "kernels/elementwise.h"
#include "layers/transformer.h"
#include "tests/support/model_cases.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr std::int64_t kBatch = 2, kSeqLen = 33, kTokens = kBatch * kSeqLen;

ModelConfig config() {
  ModelConfig c = small_model_config();
  c.num_layers = 3;
  c.d_expert = 40;
  c.router.z_loss = 0.003;
  return c;
}

struct Step {
  std::vector<float> gradient;
  std::vector<std::vector<std::int32_t>> expert_offsets;  // of each layer
  double loss;
  std::int64_t kept_bytes;  // activations between forward and backward
  std::int64_t peak_bytes;
};

// One forward and backward pass; `between` runs after the forward one.
Step train_once(
    const ModelConfig& c, DType compute, Recompute recompute,
    const std::function<void(Transformer&)>& between = [](Transformer&) {},
    std::int64_t recompute_layers = 0) {
  Transformer model(c);
  ParameterStore store(model.parameters(), {DType::f32, compute, 4});
  const Tensor tokens = ids_tensor(random_ids("tokens", kTokens, c.vocab_size));
  const Tensor targets = ids_tensor(random_ids("targets", kTokens, c.vocab_size));
  Tape tape;
  const TapeScope scope(tape);
  GradientStep gradients(store);
  Step step;
  const std::int64_t before = memory_use(Category::activations).now_bytes;
  reset_peak_memory();
  ModelLosses losses = model.losses(
      tokens, targets, 1.0 / kTokens, 1,
      {.batch = kBatch,
       .seq_len = kSeqLen,
       .is_training = true,
       .seed = 5,
       .step = 1,
       .recompute = recompute,
       .recompute_layers = recompute_layers,
       .on_routing = [&](std::span<const Routing> layers) {
         for (const Routing& routing : layers)
           step.expert_offsets.push_back(routing.plan.expert_offsets.to_vector<std::int32_t>());
       }});
  step.loss = losses.total.data().item();
  step.kept_bytes = memory_use(Category::activations).now_bytes - before;
  between(model);
  gradients.backward(tape, losses.total);
  gradients.finish();
  step.peak_bytes = memory_use(Category::activations).peak_bytes - before;
  step.gradient = store.gradient().to_vector<float>();
  return step;
}

}  // namespace

TEST_CASE("loss, gradients and routing are bit-identical with recomputation") {
  std::vector<ModelConfig> configs(5, config());
  configs[1].num_shared_experts = 1;
  configs[1].router.jitter = 0.05;
  configs[2].activation = Activation::gelu;
  configs[2].tie_embeddings = true;
  configs[3].router.score = RouterScore::sigmoid;
  configs[3].router.selection_bias_rate = 0.01;
  configs[4].attention = small_attention_mixture(true);
  for (std::size_t i = 0; i < configs.size(); ++i)
    for (const DType compute : {DType::f32, DType::bf16}) {
      CAPTURE(i);
      CAPTURE(name_of(compute));
      const Step expected = train_once(configs[i], compute, Recompute::none);
      for (const Recompute recompute : {Recompute::experts, Recompute::block}) {
        const Step step = train_once(configs[i], compute, recompute);
        CHECK(step.loss == expected.loss);
        CHECK(step.expert_offsets == expected.expert_offsets);
        CHECK(std::memcmp(step.gradient.data(), expected.gradient.data(),
                          expected.gradient.size() * sizeof(float)) == 0);
      }
    }
}

TEST_CASE("recomputed tensors are not held between forward and backward") {
  for (const std::int64_t shared : {0, 1}) {
    ModelConfig c = config();
    c.num_shared_experts = shared;
    const Step none = train_once(c, DType::f32, Recompute::none);
    const Step experts = train_once(c, DType::f32, Recompute::experts);
    const Step block = train_once(c, DType::f32, Recompute::block);
    // The difference is exactly h [N, 2F] of the routed experts, and h [T, 2F] and a [T, F] of a
    // shared one.
    const std::int64_t rows = kTokens * c.top_k;
    const std::int64_t h_bytes = (rows * 2 + shared * kTokens * 3) * c.d_expert * 4;
    CHECK(none.kept_bytes - experts.kept_bytes == c.num_layers * h_bytes);
    // Of a layer only its input and the plan: index arrays, offsets and losses.
    const std::int64_t layer_bytes = kTokens * c.d_model * 4 + rows * 3 * 4;
    const std::int64_t final_norm_bytes = 2 * kTokens * c.d_model * 4;
    CHECK(block.kept_bytes < c.num_layers * (layer_bytes + 64) + final_norm_bytes + 4096);
    CHECK(experts.peak_bytes < none.peak_bytes);
    CHECK(block.peak_bytes < experts.peak_bytes);
  }
}

TEST_CASE("recomputation in some layers changes no bit and frees its share of the memory") {
  const ModelConfig c = config();
  const auto none = [](Transformer&) {};
  for (const Recompute recompute : {Recompute::experts, Recompute::block}) {
    const Step kept = train_once(c, DType::f32, Recompute::none);
    const Step all = train_once(c, DType::f32, recompute);
    std::int64_t previous = kept.kept_bytes;
    for (std::int64_t layers = 1; layers <= c.num_layers; ++layers) {
      const Step step = train_once(c, DType::f32, recompute, none, layers);
      CHECK(step.loss == kept.loss);
      CHECK(step.gradient == kept.gradient);
      CHECK(step.kept_bytes < previous);
      previous = step.kept_bytes;
    }
    CHECK(previous == all.kept_bytes);
  }
}

TEST_CASE("backward uses the experts of the forward pass, even if the router's weights change") {
  ModelConfig c = config();
  c.router.score = RouterScore::softmax_topk;
  const auto negate_routers = [](Transformer& model) {
    for (Parameter* p : model.parameters())
      if (p->name().ends_with("gate.weight")) {
        const Tensor& w = p->value();
        kernels::scale(launch(), {w.data(), w.dtype(), w.data(), w.dtype(), w.numel(), -1.0});
      }
  };
  const Step step = train_once(c, DType::f32, Recompute::block, negate_routers);
  CHECK(step.expert_offsets == train_once(c, DType::f32, Recompute::none).expert_offsets);
  // An expert of the last layer has a gradient if and only if the forward pass sent rows to it.
  Transformer model(c);
  ParameterStore store(model.parameters(), {DType::f32, DType::f32, 4});
  for (const Parameter* p : store.parameters()) {
    if (p->name() != "model.layers.2.block_sparse_moe.experts.w2.weight") continue;
    const float* const gradient = step.gradient.data() + store.offset_of(*p);
    const std::int64_t size = p->numel() / c.num_experts;
    for (std::int64_t e = 0; e < c.num_experts; ++e) {
      const bool has_rows = step.expert_offsets[2][e + 1] > step.expert_offsets[2][e];
      const bool has_gradient = std::any_of(gradient + e * size, gradient + (e + 1) * size,
                                            [](float g) { return g != 0; });
      CHECK(has_gradient == has_rows);
    }
  }
}
