// Training under the launcher: a killed rank costs at most the steps since the last checkpoint, and
// the result is bit-identical to that of an undisturbed run.
#include <doctest/doctest.h>

#include "tests/support/text.h"
#include "tests/train/launch/launched_job.h"
#include "tests/train/small_run.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// Runs of a small model in a temporary folder.
class Runs {
 public:
  Runs() { write_small_token_set(folder_ / "set.h5"); }

  std::string train(const std::string& name, const std::string& overrides) const {
    return concat("train configs/tiny.yaml run.name=", name, " run.dir=", folder_.path(),
                  " data.path=", folder_ / "set.h5",
                  " model.num_layers=1 model.d_model=32 model.num_heads=2 model.num_kv_heads=2"
                  " model.head_dim=16 model.d_expert=32 train.seq_len=16 train.micro_batch=2"
                  " train.eval_every=0 train.eval_batches=1 schedule.warmup_steps=1 log.every=1 ",
                  overrides);
  }
  std::string path(const std::string& name) const { return folder_ / name; }
  std::string metrics(const std::string& name) const {
    return contents(path(name) + "/metrics.jsonl");
  }
  /// The tensors of a run's checkpoint.
  std::string tensors(const std::string& name, const std::string& step) const {
    return contents(path(name) + "/checkpoints/step-" + step + "/shard-00000.bin");
  }

 private:
  TemporaryFolder folder_;
};

}  // namespace

TEST_CASE("a job whose rank is killed restarts and its result is bit-identical") {
  const Runs runs;
  const std::string keys = "train.steps=60 checkpoint.every=5";
  LaunchedJob plain("--nproc-per-node 2 " + runs.train("plain", keys));
  CHECK(plain.wait() == 0);
  CHECK(contains(plain.output(), "step 60/60"));
  CHECK(contains(plain.error(), concat("logs in ", runs.path("plain"), "/logs")));

  LaunchedJob job("--nproc-per-node 2 --max-restarts 1 " + runs.train("killed", keys));
  REQUIRE(happens_within(60, [&] { return contains(job.output(), "saved "); }));
  const pid_t victim = job.pid_of_rank(1);
  REQUIRE(victim > 0);
  ::kill(victim, SIGKILL);
  CHECK(job.wait() == 0);
  CAPTURE(job.error());
  CHECK(contains(job.error(), concat("rank 1 (local rank 1, pid ", victim, " on ")));
  CHECK(contains(job.error(), "restarting all ranks from the checkpoint of step "));
  CHECK(contains(job.output(), "resumed from "));
  CHECK(runs.tensors("plain", "00000060").size() > 1000);
  CHECK(runs.tensors("killed", "00000060") == runs.tensors("plain", "00000060"));
}

TEST_CASE("a job is restarted once before its first checkpoint, and not without a new one") {
  const Runs runs;
  LaunchedJob job("--nproc-per-node 2 --max-restarts 3 " +
                  runs.train("barren", "train.steps=100000 checkpoint.every=0"));
  const auto kill_at_second_step = [&](int start) {
    REQUIRE(happens_within(60, [&] {
      const std::string output = job.output();
      int starts = 0;
      for (std::size_t at = 0; (at = output.find(" 2/100000", at)) != std::string::npos; ++at)
        ++starts;
      return starts == start;
    }));
    ::kill(job.pid_of_rank(0), SIGKILL);
  };
  kill_at_second_step(1);
  REQUIRE(happens_within(60, [&] {
    return contains(job.error(), "restarting all ranks from the beginning, since there is no ");
  }));
  kill_at_second_step(2);
  CHECK(job.wait() == 137);
  CHECK(contains(job.error(), "not restarted: no new checkpoint was saved since the last start\n"));
  CHECK(contains(job.last_line(), "rank 0 (local rank 0, pid "));
}

TEST_CASE("a signal to the launcher saves and stops all ranks, and the same command resumes") {
  const Runs runs;
  const std::string command =
      "--nproc-per-node 2 " + runs.train("stopped", "train.steps=40 checkpoint.every=0");
  LaunchedJob job(command);
  REQUIRE(happens_within(60, [&] { return contains(job.output(), "2/40"); }));
  job.send(SIGTERM);
  CHECK(job.wait() == 143);
  CHECK(contains(job.output(), "stopped by SIGTERM after step "));
  LaunchedJob again(command);
  CHECK(again.wait() == 0);
  CHECK(contains(again.output(), "resumed from "));
  CHECK(contains(again.output(), "step 40/40"));
}

TEST_CASE("a second launch of a run is refused before it touches the logs") {
  const Runs runs;
  const std::string command =
      "--nproc-per-node 2 " + runs.train("live", "train.steps=100000 checkpoint.every=0");
  LaunchedJob live(command);
  REQUIRE(happens_within(60, [&] { return contains(live.output(), "2/100000"); }));
  LaunchedJob second(command);
  CHECK(second.wait() == 2);
  CHECK(contains(second.error(), " writes this run; wait for it, or give the run another name\n"));
  for (const char* log : {"/logs/rank-0.log", "/logs/rank-1.log"})
    CHECK(!contains(contents(runs.path("live") + log), "writes this run"));
  live.send(SIGINT);
  CHECK(live.wait() == 130);
}
