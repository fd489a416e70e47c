// The recorded loss curve of 50 steps. CPUs may differ by rounding only; any other change means
// that the program trains differently.
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>

#include "tests/train/small_run.h"
#include "train/trainer.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr double kGolden[50] = {
    5.55931, 5.49674, 5.42063, 5.19055, 4.93166, 4.61799, 4.29642, 3.98637, 3.72486, 3.45896,
    3.25479, 3.07811, 2.93607, 2.76948, 2.6535,  2.58567, 2.59273, 2.68338, 2.53582, 2.57936,
    2.33197, 2.37083, 2.13219, 2.2698,  2.25028, 2.13215, 2.14827, 2.00917, 2.25447, 1.98394,
    2.25486, 2.12473, 2.16425, 2.00649, 2.27128, 1.96822, 1.93609, 1.97625, 1.81198, 2.05208,
    2.08248, 1.89169, 1.88587, 1.9268,  1.8809,  1.90328, 1.5393,  1.96149, 1.73171, 1.77693,
};

}  // namespace

TEST_CASE("fifty steps follow the golden loss curve to 1e-4") {
  SmallRun small;
  Config& config = small.config;
  config.train.steps = 50;
  config.schedule.warmup_steps = 5;
  const TrainingData data = TrainingData::open(config.data);
  Trainer trainer(config, data);
  for (int step = 0; step < 50; ++step) {
    const double loss = trainer.step().loss;
    CAPTURE(step);
    CHECK(loss == doctest::Approx(kGolden[step]).epsilon(1e-4));
  }
}
