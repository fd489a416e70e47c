// The `optim` and `schedule` sections of a config, as plain data. What each field means is said
// once, in train/config/schema.cpp.
#pragma once
#include <cstdint>

#include "core/base/dtype.h"

namespace smoe {

struct OptimConfig {
  double lr = 3e-4;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;
  double clip_norm = 1.0;
  /// f32: in the dtype of the master weights, which may be f64. bf16: beside f32 masters only, and
  /// only if 1 - beta2 is at least 2^-7, as a smaller change of v would round to none.
  DType moments = DType::f32;
};

enum class ScheduleKind : std::uint8_t { cosine, wsd, linear, constant };

struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::cosine;
  std::int64_t warmup_steps = 0;
  double min_ratio = 0.1;
  double decay_fraction = 0.2;
};

}  // namespace smoe
