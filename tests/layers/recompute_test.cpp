// train.recompute: what is kept between forward and backward changes, and not one bit of the
// result.
#include <doctest/doctest.h>

#include <cstring>

#include "autograd/parameter_store.h"
#include "autograd/tape.h"
#include "core/device.h"
#include "core/memory.h"
#include "core/random.h"
#include "kernels/elementwise.h"
#include "layers/transformer.h"

using namespace smoe;

namespace {

constexpr std::int64_t kBatch = 2, kSeqLen = 33, kTokens = kBatch * kSeqLen;

ModelConfig small_config() {
  ModelConfig c;
  c.vocab_size = 31;
  c.num_layers = 3;
  c.d_model = 24;
  c.num_heads = 4;
  c.num_kv_heads = 2;
  c.head_dim = 6;
  c.d_expert = 40;
  c.num_experts = 5;
  c.top_k = 2;
  c.router.z_loss = 0.003;
  return c;
}

struct Step {
  std::vector<float> gradient;
  std::vector<std::vector<std::int64_t>> load;
  double loss;
  std::int64_t kept_bytes;  // activations between forward and backward
  std::int64_t peak_bytes;
};

Tensor random_ids(const char* name, std::int64_t below) {
  RandomStream random(7, hash_name(name));
  std::vector<std::int32_t> ids;
  for (std::int64_t t = 0; t < kTokens; ++t)
    ids.push_back(static_cast<std::int32_t>(random.below(below)));
  return Tensor::from(ids, {kTokens});
}

// One forward and backward pass; `between` runs after the forward one.
Step train_once(
    const ModelConfig& c, DType compute, Recompute recompute,
    const std::function<void(Transformer&)>& between = [](Transformer&) {}) {
  Transformer model(c);
  ParameterStore store(model.parameters(), {DType::f32, compute, 4});
  const Tensor tokens = random_ids("tokens", c.vocab_size);
  const Tensor targets = random_ids("targets", c.vocab_size);
  Tape tape;
  const TapeScope scope(tape);
  store.begin_step();
  const std::int64_t before = memory_use(Category::activations).now_bytes;
  reset_peak_memory();
  ModelLosses losses = model.losses(tokens, targets, 1.0 / kTokens, 1,
                                    {.batch = kBatch,
                                     .seq_len = kSeqLen,
                                     .is_training = true,
                                     .seed = 5,
                                     .step = 1,
                                     .recompute = recompute});
  Step step;
  step.loss = losses.total.data().item();
  step.kept_bytes = memory_use(Category::activations).now_bytes - before;
  between(model);
  tape.backward(losses.total);
  store.finish_gradients();
  step.peak_bytes = memory_use(Category::activations).peak_bytes - before;
  step.gradient = store.gradient().to_vector<float>();
  for (const Tensor& rows : model.expert_load())
    step.load.push_back(rows.to_vector<std::int64_t>());
  return step;
}

}  // namespace

TEST_CASE("recomputation changes no bit of loss, gradients or expert load") {
  std::vector<ModelConfig> configs(4, small_config());
  configs[1].num_shared_experts = 1;
  configs[1].router.jitter = 0.05;
  configs[2].activation = Activation::gelu;
  configs[2].tie_embeddings = true;
  configs[3].router.score = RouterScore::sigmoid;
  configs[3].router.selection_bias_rate = 0.01;
  for (std::size_t i = 0; i < configs.size(); ++i)
    for (const DType compute : {DType::f32, DType::bf16}) {
      CAPTURE(i);
      CAPTURE(name_of(compute));
      const Step expected = train_once(configs[i], compute, Recompute::none);
      for (const Recompute recompute : {Recompute::experts, Recompute::block}) {
        const Step step = train_once(configs[i], compute, recompute);
        CHECK(step.loss == expected.loss);
        CHECK(step.load == expected.load);
        CHECK(std::memcmp(step.gradient.data(), expected.gradient.data(),
                          expected.gradient.size() * sizeof(float)) == 0);
      }
    }
}

TEST_CASE("what recomputation leaves out is not held between forward and backward") {
  for (const std::int64_t shared : {0, 1}) {
    ModelConfig c = small_config();
    c.num_shared_experts = shared;
    const Step none = train_once(c, DType::f32, Recompute::none);
    const Step experts = train_once(c, DType::f32, Recompute::experts);
    const Step block = train_once(c, DType::f32, Recompute::block);
    // Exactly the pre-activations h: [N, 2F] of the routed experts, and of a shared one
    // h [T, 2F] and a [T, F].
    const std::int64_t rows = kTokens * c.top_k;
    const std::int64_t h_bytes = (rows * 2 + shared * kTokens * 3) * c.d_expert * 4;
    CHECK(none.kept_bytes - experts.kept_bytes == c.num_layers * h_bytes);
    // Of a layer nothing but its input and the routing: ids (3 arrays), gates, offsets and losses.
    const std::int64_t layer_bytes = kTokens * c.d_model * 4 + rows * 4 * 4;
    const std::int64_t final_norm_bytes = 2 * kTokens * c.d_model * 4;
    CHECK(block.kept_bytes < c.num_layers * (layer_bytes + 64) + final_norm_bytes + 4096);
    CHECK(experts.peak_bytes < none.peak_bytes);
    CHECK(block.peak_bytes < experts.peak_bytes);
  }
}

TEST_CASE("the choice of experts is that of the forward pass, whatever the router says later") {
  const ModelConfig c = small_config();
  const auto spoil_routers = [](Transformer& model) {
    for (Parameter* p : model.parameters())
      if (p->name().ends_with("gate.weight")) {
        const Tensor& w = p->value();
        kernels::scale(launch(), {w.data(), w.dtype(), w.data(), w.dtype(), w.numel(), -3.0});
      }
  };
  const auto spoiled = [&](Recompute recompute) {
    return train_once(c, DType::f32, recompute, spoil_routers);
  };
  const Step expected = train_once(c, DType::f32, Recompute::none);
  const Step step = spoiled(Recompute::block);
  CHECK(step.load == expected.load);
  // Gradients of the last layer's experts do not pass through any router.
  Transformer model(c);
  ParameterStore store(model.parameters(), {DType::f32, DType::f32, 4});
  for (const Parameter* p : store.parameters()) {
    if (p->name() != "model.layers.2.block_sparse_moe.experts.w2.weight") continue;
    const std::int64_t at = store.offset_of(*p);
    CHECK(std::memcmp(step.gradient.data() + at, expected.gradient.data() + at,
                      p->numel() * sizeof(float)) == 0);
  }
  CHECK(spoiled(Recompute::none).load == expected.load);
}
