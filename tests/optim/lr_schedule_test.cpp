#include "optim/lr_schedule.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "core/base/check.h"

using namespace smoe;

namespace {

constexpr auto kCosine = ScheduleKind::cosine, kWsd = ScheduleKind::wsd,
               kLinear = ScheduleKind::linear, kConstant = ScheduleKind::constant;

struct Row {
  ScheduleConfig config;  // kind, warmup_steps, min_ratio, decay_fraction
  std::int64_t step, total_steps;
  double scale;
};

}  // namespace

TEST_CASE("schedules have exact values at every boundary") {
  const std::vector<Row> rows = {
      // Warm-up is the same for all.
      {{kCosine, 10, 0.1, 0.2}, 1, 100, 0.1},
      {{kWsd, 10, 0.1, 0.2}, 5, 100, 0.5},
      {{kLinear, 10, 0.1, 0.2}, 9, 100, 0.9},
      {{kConstant, 10, 0.1, 0.2}, 1, 100, 0.1},
      {{kConstant, 10, 0.1, 0.2}, 10, 100, 1.0},
      {{kCosine, 0, 0.1, 0.2}, 100, 100, 0.1},
      // A run that ends inside or at the end of its warm-up.
      {{kCosine, 10, 0.1, 0.2}, 5, 5, 0.5},
      {{kLinear, 10, 0.1, 0.2}, 10, 10, 1.0},
      {{kWsd, 1000, 0.1, 0.2}, 100, 100, 0.1},
      // Cosine: peak at the end of the warm-up, the middle half-way, the floor at the last step.
      {{kCosine, 10, 0.2, 0.2}, 10, 110, 1.0},
      {{kCosine, 10, 0.2, 0.2}, 60, 110, 0.6},
      {{kCosine, 10, 0.2, 0.2}, 110, 110, 0.2},
      {{kCosine, 10, 0.0, 0.2}, 35, 110, 0.5 + 0.25 * std::sqrt(2.0)},
      {{kCosine, 0, 0.0, 0.2}, 1, 1, 0.0},
      // Linear.
      {{kLinear, 10, 0.0, 0.2}, 10, 110, 1.0},
      {{kLinear, 10, 0.0, 0.2}, 11, 110, 0.99},
      {{kLinear, 10, 0.2, 0.2}, 60, 110, 0.6},
      {{kLinear, 10, 0.2, 0.2}, 110, 110, 0.2},
      // WSD: flat until the last fifth.
      {{kWsd, 10, 0.1, 0.2}, 11, 100, 1.0},
      {{kWsd, 10, 0.1, 0.2}, 80, 100, 1.0},
      {{kWsd, 10, 0.0, 0.2}, 81, 100, 0.95},
      {{kWsd, 10, 0.1, 0.2}, 90, 100, 0.55},
      {{kWsd, 10, 0.1, 0.2}, 100, 100, 0.1},
      {{kWsd, 10, 0.1, 0.0}, 100, 100, 1.0},   // no decay at all
      {{kWsd, 10, 0.0, 1.0}, 55, 100, 0.5},    // the decay starts where the warm-up ends
      {{kWsd, 0, 0.0, 0.25}, 8, 10, 2.0 / 3},  // 2.5 steps of decay are 3
      // Constant.
      {{kConstant, 0, 0.1, 0.2}, 1, 100, 1.0},
      {{kConstant, 0, 0.1, 0.2}, 100, 100, 1.0},
  };
  for (const Row& row : rows) {
    CAPTURE(static_cast<int>(row.config.kind));
    CAPTURE(row.step);
    CAPTURE(row.total_steps);
    CHECK(lr_scale(row.config, row.step, row.total_steps) ==
          doctest::Approx(row.scale).epsilon(1e-15));
  }
}

TEST_CASE("schedules rise, then fall, and never leave [0, 1]") {
  for (const ScheduleKind kind : {kCosine, kWsd, kLinear, kConstant})
    for (const std::int64_t warmup : {0, 1, 7, 40, 60}) {
      const ScheduleConfig config{kind, warmup, 0.1, 0.3};
      double before = 0;
      for (std::int64_t step = 1; step <= 50; ++step) {
        const double scale = lr_scale(config, step, 50);
        CHECK((scale > 0 && scale <= 1));
        CHECK((step <= warmup || step == 1 ? scale >= before : scale <= before));
        before = scale;
      }
    }
}

TEST_CASE("a value out of range is named") {
  const ScheduleConfig config;
  CHECK_THROWS_WITH_AS(lr_scale(config, 0, 10), "schedule: step must be 1 to 10; got 0",
                       UsageError);
  CHECK_THROWS_WITH_AS(lr_scale(config, 11, 10), "schedule: step must be 1 to 10; got 11",
                       UsageError);
  CHECK_THROWS_WITH_AS(lr_scale({kWsd, -1, 0.1, 0.2}, 1, 10),
                       "schedule: warmup_steps must not be negative; got -1", UsageError);
  CHECK_THROWS_WITH_AS(lr_scale({kWsd, 0, 1.5, 0.2}, 1, 10),
                       "schedule: min_ratio must be in [0, 1]; got 1.5", UsageError);
  CHECK_THROWS_WITH_AS(lr_scale({kWsd, 0, 0.1, -0.2}, 1, 10),
                       "schedule: decay_fraction must be in [0, 1]; got -0.2", UsageError);
}
