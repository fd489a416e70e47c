// The memory that a training step will use. The step is not modelled: TrainStep runs once on a
// device that counts allocations and computes nothing, so everything that ops save, reuse and
// recompute is counted.
#pragma once
#include <array>

#include "core/memory.h"
#include "train/config/config.h"

namespace smoe {

struct MemoryPlan {
  std::array<std::int64_t, kNumCategories> peak_bytes{};  ///< peak of each category by itself
  std::int64_t total_peak_bytes = 0;  ///< peak of the total; less than the sum of the peaks
  std::int64_t resting_bytes = 0;     ///< between steps: weights, gradients and moments

  std::int64_t of(Category category) const { return peak_bytes[static_cast<int>(category)]; }
};

/// For a config with a known vocabulary (model.vocab_size > 0), on rank 0 of `num_ranks`, which has
/// the largest shards. For a GPU workspace is that on an H100 or H200 in a build with CUDA (an
/// estimate for cuDNN and for CUB), for the CPU that with the current number of threads. Throws:
/// UsageError if the ranks cannot share the steps.
MemoryPlan plan_memory(const Config& config, int num_ranks = 1);

}  // namespace smoe
