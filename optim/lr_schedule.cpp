#include "optim/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/check.h"

namespace smoe {
namespace {

void check_schedule(const ScheduleConfig& config, std::int64_t step, std::int64_t total_steps) {
  SMOE_CHECK(step >= 1 && step <= total_steps, "schedule: step must be 1 to ", total_steps,
             "; got ", step);
  SMOE_CHECK(config.warmup_steps >= 0, "schedule: warmup_steps must not be negative; got ",
             config.warmup_steps);
  SMOE_CHECK(config.min_ratio >= 0 && config.min_ratio <= 1,
             "schedule: min_ratio must be in [0, 1]; got ", config.min_ratio);
  SMOE_CHECK(config.decay_fraction >= 0 && config.decay_fraction <= 1,
             "schedule: decay_fraction must be in [0, 1]; got ", config.decay_fraction);
}

/// Step after which the learning rate decays.
std::int64_t decay_start(const ScheduleConfig& config, std::int64_t total_steps) {
  if (config.kind != ScheduleKind::wsd) return config.warmup_steps;
  const auto decay_steps = std::llround(config.decay_fraction * static_cast<double>(total_steps));
  return std::max<std::int64_t>(config.warmup_steps, total_steps - decay_steps);
}

}  // namespace

double lr_scale(const ScheduleConfig& config, std::int64_t step, std::int64_t total_steps) {
  check_schedule(config, step, total_steps);
  if (step < config.warmup_steps)
    return static_cast<double>(step) / static_cast<double>(config.warmup_steps);
  const std::int64_t start = decay_start(config, total_steps);
  if (config.kind == ScheduleKind::constant || step <= start) return 1;
  if (step == total_steps) return config.min_ratio;
  const double progress =
      static_cast<double>(step - start) / static_cast<double>(total_steps - start);
  const double remaining = config.kind == ScheduleKind::cosine
                               ? 0.5 * (1 + std::cos(std::numbers::pi * progress))
                               : 1 - progress;
  return config.min_ratio + (1 - config.min_ratio) * remaining;
}

}  // namespace smoe
