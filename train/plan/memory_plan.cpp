#include "train/plan/memory_plan.h"

#include <algorithm>
#include <vector>

#include "autograd/parameter_store.h"
#include "autograd/tape.h"
#include "core/device.h"
#include "layers/transformer.h"
#include "optim/adamw.h"
#include "optim/clip.h"

namespace smoe {
namespace {

// One step as Trainer takes it, without its numbers.
class DryTrainer {
 public:
  explicit DryTrainer(const Config& config)
      : config_(config),
        model_(config.model),
        store_(model_.parameters(), {.master = accumulation_dtype(config.train.precision),
                                     .compute = config.train.precision}),
        optimizer_(store_, config.optim) {}

  void step() {
    forward_backward();
    const GradientClip clip = clip_gradient(store_, config_.optim.clip_norm);
    optimizer_.step(config_.optim.lr, 1, clip.coefficient);
    model_.balance_experts();
  }

 private:
  void forward_backward() {
    const TapeScope scope(tape_);
    const std::int64_t num_micro_batches = config_.train.global_batch / config_.train.micro_batch;
    std::vector<ModelLosses> kept;
    store_.begin_step();
    // All after the second are like it, but for the few bytes of losses that each leaves.
    for (std::int64_t j = 0; j < std::min<std::int64_t>(num_micro_batches, 2); ++j) {
      const ForwardContext context{.batch = config_.train.micro_batch,
                                   .seq_len = config_.train.seq_len,
                                   .is_training = true,
                                   .micro_batch = j,
                                   .recompute = config_.train.recompute};
      const Tensor ids = Tensor::empty({context.num_tokens()}, DType::i32);
      const Tensor targets = Tensor::empty({context.num_tokens()}, DType::i32);
      const ModelLosses losses = model_.losses(ids, targets, 1, 1, context);
      tape_.backward(losses.total);
      kept.push_back(losses);
    }
    store_.finish_gradients();
  }

  const Config& config_;
  Transformer model_;
  ParameterStore store_;
  AdamW optimizer_;
  Tape tape_;
};

}  // namespace

MemoryPlan plan_memory(const Config& config) {
  SMOE_CHECK(config.model.vocab_size > 0, "plan: model.vocab_size must be known; got 0");
  const Stream stream(Device{DeviceType::dry, 0});
  const StreamGuard guard(stream);
  reset_peak_memory();
  DryTrainer trainer(config);
  MemoryPlan plan{.resting_bytes = memory_use().now_bytes};
  trainer.step();
  for (int i = 0; i < kNumCategories; ++i)
    plan.peak_bytes[i] = memory_use(static_cast<Category>(i)).peak_bytes;
  plan.total_peak_bytes = memory_use().peak_bytes;
  return plan;
}

}  // namespace smoe
