#include "train/plan/memory_plan.h"

#include "core/device.h"
#include "core/gpu.h"
#include "train/plan/dry_communicator.h"
#include "train/train_step.h"

namespace smoe {
namespace {

// A batch of the right shape; a dry device has no values.
Batch dry_batch(const TrainConfig& train) {
  const std::int64_t num_tokens = train.micro_batch * train.seq_len;
  return {.token_ids = Tensor::empty({num_tokens}, DType::i32),
          .targets = Tensor::empty({num_tokens}, DType::i32),
          .num_sequences = train.micro_batch,
          .seq_len = train.seq_len};
}

// What stands for the device that the run would use here.
DeviceType dry_device(const std::string& device) {
  const bool has_gpu = device == "cuda" || (device == "auto" && gpu::num_visible() > 0);
  return has_gpu ? DeviceType::dry_cuda : DeviceType::dry_cpu;
}

}  // namespace

MemoryPlan plan_memory(const Config& config, int num_ranks) {
  SMOE_CHECK(config.model.vocab_size > 0, "plan: model.vocab_size must be known; got 0");
  const Stream stream(Device{dry_device(config.run.device), 0});
  const StreamGuard guard(stream);
  reset_peak_memory();
  DryCommunicator communicator(num_ranks);
  TrainStep train_step(config, communicator);
  MemoryPlan plan{.resting_bytes = memory_use().now_bytes};
  const StepGradient gradient =
      train_step.compute_gradient(0, [&](std::int64_t) { return dry_batch(config.train); });
  train_step.update(gradient, 1, config.optim.lr);
  for (int i = 0; i < kNumCategories; ++i)
    plan.peak_bytes[i] = memory_use(static_cast<Category>(i)).peak_bytes;
  plan.total_peak_bytes = memory_use().peak_bytes;
  return plan;
}

}  // namespace smoe
