// The `optim` and `schedule` sections of a config, as plain data.
#pragma once
#include <cstdint>

namespace smoe {

struct OptimConfig {
  double lr = 3e-4;  ///< peak learning rate; the schedule scales it
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;  ///< decoupled; not applied to norm weights
  double clip_norm = 1.0;     ///< global gradient norm; 0: no clipping
};

enum class ScheduleKind : std::uint8_t { cosine, wsd, linear, constant };

struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::cosine;
  std::int64_t warmup_steps = 0;  ///< linear from 0 to 1
  double min_ratio = 0.1;         ///< learning rate of the last step over the peak
  double decay_fraction = 0.2;    ///< wsd: fraction of all steps in the final decay
};

}  // namespace smoe
