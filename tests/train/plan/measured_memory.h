// What a training step really takes from memory, beside what is planned.
#pragma once
#include <doctest/doctest.h>

#include <array>
#include <string>

#include "train/plan/memory_plan.h"
#include "train/trainer.h"

namespace smoe::test {

/// The accounted memory of a trainer over `steps` real steps on the current device.
inline MemoryPlan measured_memory(const Config& config, const TrainingData& set, int steps) {
  std::array<std::int64_t, kNumCategories> before{};
  for (int i = 0; i < kNumCategories; ++i)
    before[i] = memory_use(static_cast<Category>(i)).now_bytes;
  const std::int64_t all_before = memory_use().now_bytes;
  reset_peak_memory();
  Trainer trainer(config, set);
  MemoryPlan result{.resting_bytes = memory_use().now_bytes - all_before};
  for (int i = 0; i < steps; ++i) trainer.step();
  for (int i = 0; i < kNumCategories; ++i)
    result.peak_bytes[i] = memory_use(static_cast<Category>(i)).peak_bytes - before[i];
  result.total_peak_bytes = memory_use().peak_bytes - all_before;
  return result;
}

inline void check_equal(const MemoryPlan& planned, const MemoryPlan& measured) {
  for (int i = 0; i < kNumCategories; ++i) {
    const std::string category = name_of(static_cast<Category>(i));
    CAPTURE(category);
    CHECK(planned.peak_bytes[i] == measured.peak_bytes[i]);
  }
  CHECK(planned.total_peak_bytes == measured.total_peak_bytes);
  CHECK(planned.resting_bytes == measured.resting_bytes);
}

}  // namespace smoe::test
