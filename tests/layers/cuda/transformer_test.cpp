#include "layers/transformer.h"

#include <doctest/doctest.h>

#include "autograd/gradient_step.h"
#include "tests/support/cuda.h"
#include "tests/support/model_cases.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr std::int64_t kBatch = 3, kSeqLen = 37, kTokens = kBatch * kSeqLen;

ModelConfig config_for_gpu() {
  ModelConfig c = small_model_config();
  c.vocab_size = 61;
  c.d_model = 32;
  c.head_dim = 16;
  c.d_expert = 48;
  c.router.z_loss = 0.003;
  return c;
}

// Losses, logits and all gradients of one step. `sum_length` bounds accumulation over all tokens
// and layers.
std::vector<Result> run(const ModelConfig& config, DType compute, std::int64_t sum_length) {
  Transformer model(config);
  ParameterStore store(model.parameters(), {DType::f32, compute, 3});
  const Tensor tokens = ids_tensor(random_ids("tokens", kTokens, config.vocab_size));
  const Tensor targets = ids_tensor(random_ids("targets", kTokens, config.vocab_size));
  const ForwardContext context{
      .batch = kBatch, .seq_len = kSeqLen, .is_training = true, .seed = 5, .step = 1};
  Tape tape;
  std::vector<Result> results;
  const auto add = [&](const std::string& name, const Tensor& x) {
    results.push_back({name, x, {.sum_length = sum_length}});
  };
  {
    const TapeScope scope(tape);
    GradientStep step(store);
    const ModelLosses losses = model.losses(tokens, targets, 1.0 / kTokens, 1, context);
    step.backward(tape, losses.total);
    add("cross entropy", losses.cross_entropy.data());
    add("balance loss", losses.balance.data());
    step.finish();
    add("z loss", losses.z.data());
  }
  for (const Parameter* parameter : store.parameters())
    add("gradient of " + parameter->name(), parameter->gradient().clone(Category::gradients));
  const NoGradScope no_grad;
  add("logits", model.logits(tokens, context).data());
  return results;
}

}  // namespace

TEST_CASE("the model's losses, logits and gradients on the GPU are the CPU's in f32") {
  for (const bool tied : {false, true})
    for (const auto& [score, shared] :
         {std::pair{RouterScore::softmax_topk_renorm, 0}, {RouterScore::sigmoid, 1}}) {
      ModelConfig config = config_for_gpu();
      config.tie_embeddings = tied;
      config.router.score = score;
      config.num_shared_experts = shared;
      check_on_gpu(concat("tied ", tied, " score ", static_cast<int>(score)),
                   [&] { return run(config, DType::f32, std::int64_t{1} << 16); });
    }
}

// Both round to bf16 at the same points, but another order of accumulation may round to the other
// neighbor, and a token with nearly tied scores may go to another expert. So gradients must agree
// within a twentieth of the largest element and losses within bf16's precision.
TEST_CASE("the model's losses and gradients on the GPU are the CPU's in bf16") {
  const ModelConfig config = config_for_gpu();
  check_on_gpu("bf16", [&] {
    std::vector<Result> results = run(config, DType::bf16, std::int64_t{1} << 34);
    for (Result& result : results)
      result.closeness = {.sum_length = std::int64_t{1} << 35, .factor = 4};
    return results;
  });
}
