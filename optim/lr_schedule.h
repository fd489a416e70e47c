// Learning-rate schedules as a pure function of the step.
#pragma once
#include "optim/optim_config.h"

namespace smoe {

/// The fraction of the peak learning rate in update `step` of `total_steps`; updates count from 1.
///   warm-up   step / W for step <= W = warmup_steps: exactly 1 at W; a run may end inside it
///   cosine    half a cosine from 1 at W to exactly min_ratio at total_steps
///   linear    linear decay between the same points
///   wsd       1 until the last decay_fraction of all steps (rounded to whole steps) or the end of
///             the warm-up, whichever is later, then linear decay to exactly min_ratio
///             (arXiv:2404.06395)
///   constant  1
/// Throws: UsageError unless 1 <= step <= total_steps and the config's numbers are in range.
double lr_scale(const ScheduleConfig& config, std::int64_t step, std::int64_t total_steps);

}  // namespace smoe
