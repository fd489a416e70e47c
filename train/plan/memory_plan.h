// What a training step will hold in memory. The step is not modelled: the model, its store and its
// optimizer are built and taken through one step on a device that counts memory and computes
// nothing, so that what ops save, reuse and recompute is counted as they do it.
#pragma once
#include <array>

#include "core/memory.h"
#include "train/config/config.h"

namespace smoe {

struct MemoryPlan {
  std::array<std::int64_t, kNumCategories> peak_bytes{};  ///< each category's own peak
  std::int64_t total_peak_bytes = 0;  ///< most held at once; less than the sum of the peaks
  std::int64_t resting_bytes = 0;     ///< between steps: weights, gradients and moments

  std::int64_t of(Category category) const { return peak_bytes[static_cast<int>(category)]; }
};

/// For a config whose vocabulary is known (model.vocab_size > 0). Workspace is that of the CPU's
/// kernels with as many threads as are set now.
MemoryPlan plan_memory(const Config& config);

}  // namespace smoe
