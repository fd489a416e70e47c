// Checkpoints by time (checkpoint.every_minutes) and by validation loss (checkpoint.keep_best).
#include <doctest/doctest.h>

#include <cstdlib>

#include "core/system/fault.h"
#include "core/system/folder.h"
#include "tests/train/rank_processes.h"
#include "tests/train/small_run.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/checkpoint_store.h"
#include "train/config/run_paths.h"
#include "train/open_run.h"
#include "train/report/metrics_file.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr double kAlwaysDue = 1e-9;  // minutes

std::string names_in(const Config& config) {
  std::string names;
  for (const FolderEntry& entry : list_folder(config.run.folder() + "/checkpoints"))
    names += entry.name.substr(entry.name.size() - 2) + " ";
  return names;
}

std::string state_at(const Config& config, std::int64_t step) {
  return read_file(
      concat(config.run.folder(), "/checkpoints/", checkpoint_name(step), "/shard-00000.bin"),
      1 << 24);
}

// The step with the lowest validation loss in the metrics.
std::int64_t best_step(const Config& config) {
  RunHistory history;
  read_metrics(
      RunPaths(config.run.folder()).metrics_path(),
      [&](const Report& report) { history.add(report); },
      [](const std::string& line) { FAIL(line); });
  REQUIRE(history.best_validation());
  return history.best_validation()->step;
}

}  // namespace

TEST_CASE("by default a run saves every ten minutes; resuming accepts another interval") {
  const SmallRun run;
  CHECK(Config().checkpoint.every_minutes == 10);
  Config other = run.config;
  other.checkpoint.every_minutes = 0;
  CHECK(config_digest(other) == config_digest(run.config));
}

TEST_CASE("saves by time, in the foreground or background, change no bits") {
  const SmallRun run;
  Config plain = run.named("plain");
  plain.checkpoint.every_minutes = 0;
  CHECK(open_run(plain)->train() == 0);
  CHECK(names_in(plain) == "12 ");
  Config timed = run.named("timed");
  timed.checkpoint.every_minutes = kAlwaysDue;
  timed.checkpoint.keep = 100;
  CHECK(open_run(timed)->train() == 0);
  CHECK(names_in(timed) == "01 02 03 04 05 06 07 08 09 10 11 12 ");
  CHECK(state_at(timed, 12) == state_at(plain, 12));
  Config background = run.named("background");
  background.checkpoint = timed.checkpoint;
  background.checkpoint.async = true;
  CHECK(open_run(background)->train() == 0);
  CHECK(state_at(background, 12) == state_at(plain, 12));

  SUBCASE("and a run resumes from any of them") {
    for (int step = 8; step <= 12; ++step)
      remove_folder(timed.run.folder() + "/checkpoints/" + checkpoint_name(step));
    CHECK(open_run(timed)->train() == 0);
    CHECK(state_at(timed, 12) == state_at(plain, 12));
  }
}

TEST_CASE("all ranks save at the step that the clock of rank 0 chooses") {
  const SmallRun run;
  for (const bool zero : {false, true}) {
    Config config = run.named(zero ? "sharded" : "replicated");
    config.run.threads = 1;
    config.parallel.zero = zero;
    config.checkpoint.keep = 100;
    config.checkpoint.every_minutes = kAlwaysDue;
    const std::string path = run.folder / "config.yaml";
    overwrite(path, to_yaml(config));
    RankProcesses ranks(run.folder.path(), 2, [&](int) {
      return std::vector<std::string>{"train", path};
    });
    CHECK(ranks.wait_all() == std::vector<int>{0, 0});
    CHECK(names_in(config) == "01 02 03 04 05 06 07 08 09 10 11 12 ");
    for (int step = 1; step <= 12; ++step)
      Checkpoint(concat(config.run.folder(), "/checkpoints/", checkpoint_name(step))).verify();
  }
}

TEST_CASE("a rollback goes to a checkpoint by steps, whatever was saved by time") {
  const SmallRun run;
  Config config = run.named("rollback");
  config.optim.lr = 1e30;  // the first update makes the weights huge
  config.schedule.warmup_steps = 0;
  config.train.on_nonfinite = NonfinitePolicy::rollback;
  config.checkpoint.every_minutes = kAlwaysDue;
  config.checkpoint.every = 2;
  CHECK(message_of([&] { open_run(config)->train(); }) ==
        "step 2: there is no checkpoint yet to roll back to");
  CHECK(names_in(config) == "01 ");
  config.run.name = "by-time-only";
  config.checkpoint.every = 0;
  CHECK(message_of([&] { open_run(config)->train(); }) ==
        "step 2: rolled back 10 times, the limit set by train.max_nonfinite");
}

TEST_CASE("a streak of steps that are not finite displaces no checkpoint, and delays its own") {
  const SmallRun run;  // of two micro-batches per step
  Config config = run.named("streak");
  config.checkpoint.every = 2;
  config.checkpoint.every_minutes = kAlwaysDue;
  config.checkpoint.keep = 12;
  const auto names_with = [&](const char* faults) {
    ::setenv("SMOE_FAULT", "", 1);  // a run observes its values only with it
    const FaultScope scope(faults);
    CHECK(open_run(config)->train() == 0);
    ::unsetenv("SMOE_FAULT");
    return names_in(config);
  };
  CHECK(names_with("loss:9+:nan") == "01 02 03 04 12 ");
  config.run.name = "delayed";
  config.checkpoint.every_minutes = 0;
  CHECK(names_with("loss:7:nan") == "02 05 06 08 10 12 ");
}

TEST_CASE("the checkpoint with the lowest validation loss is kept, also by a resumed run") {
  const SmallRun run;
  Config config = run.named("best");
  config.optim.lr = 2;  // at the end of the warm-up, the loss rises again
  config.schedule.warmup_steps = 12;
  config.train.eval_every = 1;
  config.checkpoint.keep = 1;
  config.checkpoint.keep_best = true;
  config.checkpoint.every_minutes = 0;
  CHECK(open_run(config)->train() == 0);
  const std::int64_t best = best_step(config);
  REQUIRE(best < 12);
  CHECK(kind_of(config.run.folder() + "/checkpoints/" + checkpoint_name(best)) == PathKind::folder);
  const std::string state = state_at(config, best);
  CHECK(names_in(config) == concat(checkpoint_name(best).substr(11), " 12 "));
  remove_folder(config.run.folder() + "/checkpoints/" + checkpoint_name(12));
  CHECK(open_run(config)->train() == 0);
  CHECK(best_step(config) == best);
  CHECK(state_at(config, best) == state);
}
