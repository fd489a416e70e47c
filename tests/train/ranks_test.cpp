// Jobs of several processes of the program.
#include "train/ranks.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "core/system/folder.h"
#include "tests/train/checkpoint/tensor_digests.h"
#include "tests/train/rank_processes.h"
#include "tests/train/small_run.h"
#include "train/checkpoint/checkpoint_store.h"
#include "train/config/run_paths.h"
#include "train/report/metrics_file.h"

using namespace smoe;
using namespace smoe::test;

namespace {

using Overrides = std::vector<std::string>;

struct Setting : SmallRun {
  std::string path = folder.path() + "/small.yaml";

  Setting() {
    config.train.steps = 40;
    config.train.global_batch = 8;
    config.train.precision = DType::f64;
    config.run.threads = 1;
    config.parallel.check_every = 3;
    write_file_atomically(path, to_yaml(config));
  }

  Overrides arguments(const Overrides& overrides) const {
    Overrides all = {"train", path};
    all.insert(all.end(), overrides.begin(), overrides.end());
    return all;
  }
  RunPaths paths(const std::string& name) const { return RunPaths(config.run.dir + "/" + name); }
};

/// The same arguments for all ranks.
auto same(const Overrides& arguments) {
  return [=](int) { return arguments; };
}

bool reaches(const RunPaths& paths, std::int64_t step) {
  if (kind_of(paths.metrics_path()) != PathKind::file) return false;
  const std::string metrics = read_file(paths.metrics_path(), 1 << 24);
  return metrics.find("\"kind\":\"step\",\"step\":" + std::to_string(step) + ",") !=
         std::string::npos;
}

void wait_until(const RunPaths& paths, std::int64_t step) {
  const Deadline deadline = Deadline::in(60);
  while (!reaches(paths, step)) {
    REQUIRE_FALSE(deadline.has_passed());
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

/// The losses of all steps.
std::vector<double> losses(const RunPaths& paths) {
  std::vector<double> result;
  const auto fail = [](const std::string& line) { FAIL(line); };
  read_metrics(
      paths.metrics_path(),
      [&](const Report& report) {
        if (const auto* step = std::get_if<StepReport>(&report)) {
          CHECK(step->step == static_cast<std::int64_t>(result.size()) + 1);
          result.push_back(step->loss);
        }
      },
      fail);
  return result;
}

/// The digests of all tensors after the last step, by name, whatever their shards.
std::map<std::string, std::string> final_state(const RunPaths& paths) {
  return tensor_digests(Checkpoint(paths.checkpoints_path() + "/step-00000040"));
}

std::size_t num_shards(const RunPaths& paths) {
  return Checkpoint(paths.checkpoints_path() + "/step-00000040").manifest().shards.size();
}

std::int64_t newest_step(const RunPaths& paths) {
  return CheckpointStore({.folder = paths.checkpoints_path()}, nullptr).newest_step();
}

const std::vector<int> kBothDone = {0, 0};

}  // namespace

TEST_CASE("losses do not depend on the number of ranks, which may change from resume to resume") {
  const Setting setting;
  RankProcesses alone(setting.folder.path(), 1, same(setting.arguments({"run.name=alone"})));
  CHECK(alone.wait(0) == 0);
  const RunPaths moving = setting.paths("moving");
  const struct {
    int world_size;
    const char* zero;
    std::int64_t until;
  } stages[] = {{1, "0", 8}, {2, "1", 16}, {4, "0", 24}, {4, "1", 30}, {1, "1", 40}};
  for (const auto& [world_size, zero, until] : stages) {
    CAPTURE(world_size);
    RankProcesses ranks(
        setting.folder.path(), world_size,
        same(setting.arguments({"run.name=moving", std::string("parallel.zero=") + zero})));
    if (until < 40) {
      wait_until(moving, until);
      ranks.send(world_size - 1, SIGUSR1);
    }
    for (int rank = 0; rank < world_size; ++rank)
      CHECK(ranks.wait(rank) == (until < 40 ? 128 + SIGUSR1 : 0));
    for (int rank = 1; rank < world_size; ++rank) CHECK(ranks.output(rank) == "");
  }
  const std::vector<double> a = losses(setting.paths("alone")), b = losses(moving);
  REQUIRE(a.size() == 40);
  REQUIRE(b.size() == 40);
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(std::abs(a[i] - b[i]) <= 1e-12 * a[i]);
}

TEST_CASE("a signal to one of two ranks stops both, and they resume bit-identical") {
  const Setting setting;
  const auto run = [&](const std::string& name, const char* zero) {
    return std::make_unique<RankProcesses>(
        setting.folder.path(), 2,
        same(setting.arguments(
            {"run.name=" + name, std::string("parallel.zero=") + zero, "train.precision=fp32"})));
  };
  CHECK(run("whole", "0")->wait_all() == kBothDone);
  CHECK(num_shards(setting.paths("whole")) == 1);
  for (const int signal : {SIGTERM, SIGINT}) {
    const std::string name = "stopped-" + std::to_string(signal);
    auto stopped = run(name, "1");
    wait_until(setting.paths(name), 5);
    stopped->send(1, signal);
    CHECK(stopped->wait_all() == std::vector<int>{128 + signal, 128 + signal});
    const std::int64_t saved = newest_step(setting.paths(name));
    CHECK(stopped->output(0).find(concat("after step ", saved)) != std::string::npos);
    CHECK(run(name, "1")->wait_all() == kBothDone);
    CHECK(final_state(setting.paths(name)) == final_state(setting.paths("whole")));
    CHECK(num_shards(setting.paths(name)) == 2);
  }
}

TEST_CASE("ranks that save in the background end bit-identical, stopped or not") {
  const Setting setting;
  const auto run = [&](const std::string& name, const char* zero, const char* async) {
    return std::make_unique<RankProcesses>(
        setting.folder.path(), 2,
        same(setting.arguments({"run.name=" + name, std::string("parallel.zero=") + zero,
                                std::string("checkpoint.async=") + async, "checkpoint.every=5"})));
  };
  CHECK(run("waits", "0", "false")->wait_all() == kBothDone);
  for (const char* zero : {"0", "1"}) {
    const std::string name = std::string("trains-") + zero;
    auto stopped = run(name, zero, "true");
    wait_until(setting.paths(name), 12);
    stopped->send(0, SIGUSR1);
    CHECK(stopped->wait_all() == std::vector<int>{128 + SIGUSR1, 128 + SIGUSR1});
    CHECK(newest_step(setting.paths(name)) >= 12);
    CHECK(run(name, zero, "true")->wait_all() == kBothDone);
    CHECK(final_state(setting.paths(name)) == final_state(setting.paths("waits")));
  }
}

TEST_CASE("ranks with different configurations are refused, with key and both values") {
  const Setting setting;
  const auto start = Deadline::Clock::now();
  RankProcesses ranks(setting.folder.path(), 4, [&](int rank) {
    return setting.arguments({rank == 2 ? "optim.lr=0.5" : "optim.lr=0.25"});
  });
  CHECK(ranks.wait_all() == std::vector<int>{2, 2, 2, 2});
  for (int rank = 0; rank < 4; ++rank)
    CHECK(ranks.output(rank).find("optim.lr: must be the same on all ranks; rank 0 has 0.25, "
                                  "rank 2 has 0.5") != std::string::npos);
  CHECK(Deadline::Clock::now() - start < std::chrono::seconds(10));
  CHECK(kind_of(setting.paths("small").path()) == PathKind::none);
}

TEST_CASE("all ranks report a rank that fails to start") {
  const Setting setting;
  RankProcesses ranks(setting.folder.path(), 2, [&](int rank) {
    return setting.arguments(rank == 1 ? Overrides{"data.path=/no/such.h5"} : Overrides{});
  });
  CHECK(ranks.wait_all(20) == std::vector<int>{2, 2});
  CHECK(ranks.output(0).find("rank 1: ") != std::string::npos);
  CHECK(ranks.output(0).find("/no/such.h5") != std::string::npos);
}

TEST_CASE("a killed rank is named with the step, and the others exit at once") {
  const Setting setting;
  RankProcesses ranks(setting.folder.path(), 4, same(setting.arguments({"train.steps=1000000"})));
  wait_until(setting.paths("small"), 3);
  ranks.send(2, SIGKILL);
  const auto start = Deadline::Clock::now();
  CHECK(ranks.wait(1, 10) == 1);
  CHECK(ranks.wait(3, 10) == 1);
  CHECK(Deadline::Clock::now() - start < std::chrono::seconds(5));
  CHECK(ranks.wait_all(20) == std::vector<int>{1, 1, -SIGKILL, 1});  // rank 0 writes its page
  for (const int rank : {0, 1, 3}) {
    CAPTURE(ranks.output(rank));
    CHECK(ranks.output(rank).find("rank " + std::to_string(rank) + ", step ") != std::string::npos);
    CHECK(ranks.output(rank).find("lost rank 2") != std::string::npos);
  }
}

TEST_CASE("a rank that hangs is named after the timeout") {
  const Setting setting;
  RankProcesses ranks(setting.folder.path(), 2,
                      same(setting.arguments({"train.steps=1000000", "parallel.timeout_s=2"})));
  wait_until(setting.paths("small"), 3);
  ranks.send(1, SIGSTOP);
  const auto start = Deadline::Clock::now();
  CHECK(ranks.wait(0, 20) == 1);
  CHECK(Deadline::Clock::now() - start < std::chrono::seconds(5));
  CAPTURE(ranks.output(0));
  CHECK(ranks.output(0).find("rank 1 did not respond within 2 s") != std::string::npos);
  ranks.send(1, SIGCONT);
  CHECK(ranks.wait(1, 20) == 1);
  CHECK(ranks.output(1).find("stopping, because of rank 0, step ") != std::string::npos);
}

TEST_CASE(
    "a fault in a sharded save ends all ranks, names the rank, and keeps earlier checkpoints") {
  const Setting setting;
  const RunPaths paths = setting.paths("small");
  const Overrides arguments = {"parallel.zero=1", "train.steps=1000000", "checkpoint.every=5",
                               "checkpoint.keep=1000000"};
  for (const int faulty : {0, 1}) {
    CAPTURE(faulty);
    RankProcesses ranks(setting.folder.path(), 2, same(setting.arguments(arguments)),
                        [&](int rank) -> std::vector<std::string> {
                          if (rank == faulty) return {"SMOE_FAULT=write:200:ENOSPC"};
                          return {};
                        });
    CHECK(ranks.wait_all() == std::vector<int>{1, 1});
    const std::string who = "rank " + std::to_string(faulty) + ", step ";
    for (int rank = 0; rank < 2; ++rank) CHECK(ranks.output(rank).find(who) != std::string::npos);
    CHECK(ranks.output(1 - faulty).find("No space left on device") != std::string::npos);
    CHECK(newest_step(paths) > 0);
    const std::string log = read_file(paths.log_path(), 1 << 24);
    for (const FolderEntry& entry : list_folder(paths.checkpoints_path()))
      if (entry.name.starts_with("step-")) {
        const std::string checkpoint = paths.checkpoints_path() + "/" + entry.name;
        Checkpoint(checkpoint).verify();
        CHECK(log.find("saved " + checkpoint + "\n") != std::string::npos);
      }
  }
}

TEST_CASE("a loss that is not finite on one rank takes effect on all, whatever the policy") {
  const Setting setting;
  const auto run = [&](const std::string& policy) {
    return std::make_unique<RankProcesses>(
        setting.folder.path(), 2,
        same(setting.arguments({"run.name=" + policy, "train.on_nonfinite=" + policy,
                                "checkpoint.every=4", "parallel.zero=1"})),
        [](int rank) -> std::vector<std::string> {
          if (rank == 1) return {"SMOE_FAULT=loss:21:nan"};  // step 11, of two micro-batches each
          return {};
        });
  };
  const auto skip = run("skip");
  CHECK(skip->wait_all() == kBothDone);
  CHECK(skip->output(0).find("step 11/40") != std::string::npos);
  const auto rollback = run("rollback");
  CHECK(rollback->wait_all() == kBothDone);
  CHECK(rollback->output(0).find("rolled back from step 11 to step 8") != std::string::npos);
  const auto stop = run("stop");
  CHECK(stop->wait_all() == std::vector<int>{2, 2});
  for (int rank = 0; rank < 2; ++rank)
    CHECK(stop->output(rank).find("step 11: loss or gradient norm is not finite") !=
          std::string::npos);
  CHECK(newest_step(setting.paths("stop")) == 11);
}

TEST_CASE("a weight corrupted on one rank ends the run within check_every steps") {
  const Setting setting;
  RankProcesses ranks(setting.folder.path(), 4, same(setting.arguments({})),
                      [](int rank) -> std::vector<std::string> {
                        if (rank == 2) return {"SMOE_FAULT=weight:8:EIO"};
                        return {};
                      });
  CHECK(ranks.wait_all() == std::vector<int>{1, 1, 1, 1});
  for (int rank = 0; rank < 4; ++rank)
    CHECK(ranks.output(rank).find(", step 9: replicas: ") != std::string::npos);
  CHECK(ranks.output(0).find("rank 2 differs from the other ranks") != std::string::npos);
}

TEST_CASE("a rank that never joins is named") {
  const Setting setting;
  RankProcesses ranks(setting.folder.path(), 2, [&](int rank) {
    return rank == 1 ? Overrides{"--version"} : setting.arguments({"parallel.timeout_s=1"});
  });
  CHECK(ranks.wait_all(20) == std::vector<int>{1, 0});
  CHECK(ranks.output(0).find("rank 0 of 2 waits for rank 1\n") != std::string::npos);
  CHECK(ranks.output(0).find("rank 1 did not join within 1 s") != std::string::npos);
}

namespace {

/// Why each of two ranks may not join, with facts and devices by rank; empty if it may.
std::vector<std::string> refusals(const std::vector<std::vector<Fact>>& facts,
                                  const std::vector<std::string>& devices) {
  const RendezvousServer server({.job_id = "test"});
  std::vector<std::string> errors(2);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank)
    threads.emplace_back([&, rank] {
      Ranks ranks({.rank = rank,
                   .world_size = 2,
                   .local_rank = rank,
                   .local_world_size = 2,
                   .endpoint = concat("127.0.0.1:", server.port()),
                   .job_id = "test"},
                  20);
      try {
        ranks.join(facts[rank], devices[rank]);
        ranks.leave();
      } catch (const UsageError& error) {
        errors[rank] = error.what();
        ranks.report_failure(errors[rank], false);  // another rank may still wait in join()
      }
    });
  for (std::thread& thread : threads) thread.join();
  return errors;
}

}  // namespace

TEST_CASE("ranks that share a device are refused by name; different devices are not") {
  for (const bool is_shared : {true, false})
    for (const std::string& error : refusals({{}, {}}, {"GPU-0", is_shared ? "GPU-0" : "GPU-1"})) {
      CAPTURE(error);
      CHECK(error.starts_with("device: each rank needs a GPU of its own; ranks ") == is_shared);
      CHECK(error.ends_with(" both use GPU-0") == is_shared);
    }
}

TEST_CASE("ranks with unequal drivers or versions of NCCL are refused by name") {
  const std::vector<Fact> first = {{"the CUDA version of the driver", "13.0"}, {"NCCL", "2.28.3"}};
  for (const std::size_t changed : {0, 1}) {
    std::vector<Fact> second = first;
    second[changed].value = "2.27";
    for (const std::string& error : refusals({first, second}, {"GPU-0", "GPU-1"}))
      CHECK(error == concat(first[changed].key, ": must be the same on all ranks; rank 0 has ",
                            first[changed].value, ", rank 1 has 2.27"));
  }
}
