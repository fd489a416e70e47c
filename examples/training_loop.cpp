// A custom training loop: a small mixture-of-experts transformer memorizes a text.
#include <cstdio>
#include <string>
#include <vector>

#include "autograd/gradient_step.h"
#include "core/device.h"
#include "layers/transformer.h"
#include "optim/adamw.h"
#include "optim/clip.h"

int main() {
  using namespace smoe;
  const Stream stream(select_device("auto"));  // a GPU if there is one
  const StreamGuard guard(stream);

  const ModelConfig config{.vocab_size = 128,
                           .num_layers = 2,
                           .d_model = 64,
                           .num_heads = 4,
                           .num_kv_heads = 2,
                           .head_dim = 16,
                           .d_expert = 96,
                           .num_experts = 4,
                           .top_k = 2,
                           .router = {}};
  Transformer model(config);
  ParameterStore store(model.parameters(), {.seed = 1});  // allocates and initializes all weights
  AdamW optimizer(store, {.lr = 3e-3});

  const std::string text = "the quick brown fox jumps over the lazy dog. ";
  constexpr std::int64_t kBatch = 2, kSeqLen = 90, kSteps = 60;
  std::vector<std::int32_t> tokens, targets;
  for (std::int64_t i = 0; i < kBatch * kSeqLen; ++i) {
    tokens.push_back(text[i % text.size()]);
    targets.push_back(text[(i + 1) % text.size()]);
  }
  const Tensor token_ids = Tensor::from(tokens, {kBatch * kSeqLen});
  const Tensor target_ids = Tensor::from(targets, {kBatch * kSeqLen});

  Tape tape;
  double first = 0, last = 0;
  for (std::int64_t step = 1; step <= kSteps; ++step) {
    GradientStep gradients(store);  // gradients are overwritten, not zeroed
    const TapeScope recording(tape);
    const ModelLosses losses =
        model.losses(token_ids, target_ids, 1.0 / (kBatch * kSeqLen), 1.0,
                     {.batch = kBatch, .seq_len = kSeqLen, .is_training = true, .step = step});
    gradients.backward(tape, losses.total);
    gradients.finish();
    const GradientClip clip = clip_to(sum_of_squares(store.gradient()), 1.0);
    optimizer.step(3e-3, step, clip.coefficient);  // nothing above waited for the device

    last = losses.cross_entropy.data().item();
    if (step == 1) first = last;
    if (step == 1 || step % 20 == 0)
      std::printf("step %3d  loss %.3f\n", static_cast<int>(step), last);
  }
  return last < 0.5 * first ? 0 : 1;
}
