// Jobs of two processes of the program itself, a GPU each.
#include "train/ranks.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "core/device.h"
#include "core/gpu.h"
#include "core/memory.h"
#include "core/system/folder.h"
#include "tests/train/checkpoint/tensor_digests.h"
#include "tests/train/launch/launched_job.h"
#include "tests/train/rank_processes.h"
#include "tests/train/small_run.h"
#include "train/checkpoint/checkpoint_store.h"
#include "train/config/run_paths.h"
#include "train/plan/plan.h"
#include "train/report/metrics_file.h"

using namespace smoe;
using namespace smoe::test;

namespace {

using Overrides = std::vector<std::string>;

constexpr std::int64_t kSteps = 40;
const std::vector<int> kBothDone = {0, 0};

struct Setting : SmallRun {
  std::string path = folder.path() + "/small.yaml";

  Setting() {
    config.run.device = "cuda";
    config.run.threads = 2;
    config.train.steps = kSteps;
    config.train.global_batch = 8;
    config.train.precision = DType::bf16;
    config.model.d_model = 128;
    config.model.head_dim = 32;
    config.model.d_expert = 256;
    config.parallel.bucket_mb = 1;  // several buckets
    config.parallel.check_every = 10;
    config.optim.lr = 3e-4;
    write_file_atomically(path, to_yaml(config));
  }

  Overrides arguments(const Overrides& overrides) const {
    Overrides all = {"train", path};
    all.insert(all.end(), overrides.begin(), overrides.end());
    return all;
  }
  std::unique_ptr<RankProcesses> start(int world_size, const Overrides& overrides) const {
    return std::make_unique<RankProcesses>(folder.path(), world_size,
                                           [all = arguments(overrides)](int) { return all; });
  }
  RunPaths paths(const std::string& name) const { return RunPaths(config.run.dir + "/" + name); }
};

/// Losses and gradient norms of all steps.
std::vector<std::pair<double, double>> curve(const RunPaths& paths) {
  std::vector<std::pair<double, double>> result;
  read_metrics(
      paths.metrics_path(),
      [&](const Report& report) {
        if (const auto* step = std::get_if<StepReport>(&report)) {
          CHECK(step->step == static_cast<std::int64_t>(result.size()) + 1);
          result.emplace_back(step->loss, step->grad_norm);
        }
      },
      [](const std::string& line) { FAIL(line); });
  CHECK(result.size() == kSteps);
  return result;
}

/// The largest relative difference of two curves' losses, and of their gradient norms.
std::pair<double, double> largest_difference(const RunPaths& a, const RunPaths& b) {
  const auto one = curve(a), other = curve(b);
  std::pair<double, double> most;
  for (std::size_t i = 0; i < std::min(one.size(), other.size()); ++i) {
    most.first = std::max(most.first, std::abs(one[i].first / other[i].first - 1));
    most.second = std::max(most.second, std::abs(one[i].second / other[i].second - 1));
  }
  return most;
}

/// Digests of all tensors after the last step, by name, whatever files they are in.
std::map<std::string, std::string> final_state(const RunPaths& paths) {
  return tensor_digests(Checkpoint(concat(paths.checkpoints_path(), "/step-000000", kSteps)));
}

void wait_until(const RunPaths& paths, std::int64_t step) {
  const std::string wanted = concat("\"kind\":\"step\",\"step\":", step, ",");
  REQUIRE(happens_within(
      60, [&] { return contents(paths.metrics_path()).find(wanted) != std::string::npos; }));
}

double seconds_since(Deadline::Clock::time_point start) {
  return std::chrono::duration<double>(Deadline::Clock::now() - start).count();
}

/// The least of both GPUs.
std::int64_t free_gpu_bytes() {
  return std::min(gpu::memory_info(0).free_bytes, gpu::memory_info(1).free_bytes);
}

}  // namespace

TEST_CASE("two GPUs train what one trains: the first loss bit for bit, 40 steps to 1e-3") {
  const Setting setting;
  for (const char* precision : {"fp32", "bf16"}) {
    const std::string one = concat("one-", precision), two = concat("two-", precision);
    const std::string key = concat("train.precision=", precision);
    CHECK(setting.start(1, {"run.name=" + one, key})->wait(0) == 0);
    const auto ranks = setting.start(2, {"run.name=" + two, key});
    CHECK(ranks->wait_all() == kBothDone);
    INFO(ranks->output(0), ranks->output(1));
    CHECK(ranks->output(0).find("all-reduce at ") != std::string::npos);
    CHECK(ranks->output(1) == "");
    CHECK(curve(setting.paths(one))[0].first == curve(setting.paths(two))[0].first);
    const auto [loss, norm] = largest_difference(setting.paths(one), setting.paths(two));
    MESSAGE(precision, ": losses differ by at most ", loss, ", gradient norms by ", norm);
    CHECK(loss <= 1e-3);
  }
}

TEST_CASE("two runs on two GPUs, sharded or not, stopped or not, end in the same bits") {
  const Setting setting;
  CHECK(setting.start(2, {"run.name=nccl", "parallel.transport=nccl"})->wait_all() == kBothDone);
  CHECK(setting.start(2, {"run.name=whole"})->wait_all() == kBothDone);
  CHECK(setting.start(2, {"run.name=again"})->wait_all() == kBothDone);
  const auto whole = final_state(setting.paths("whole"));
  CHECK(final_state(setting.paths("again")) == whole);
  CHECK(final_state(setting.paths("nccl")) == whole);
  CHECK(curve(setting.paths("again")) == curve(setting.paths("whole")));
  CHECK(setting.start(2, {"run.name=sharded", "parallel.zero=1"})->wait_all() == kBothDone);
  CHECK(curve(setting.paths("sharded")) == curve(setting.paths("whole")));
  CHECK(final_state(setting.paths("sharded")) == whole);
  for (const char* zero : {"0", "1"}) {
    const std::string name = concat("stopped-", zero);
    const Overrides keys = {"run.name=" + name, concat("parallel.zero=", zero)};
    const auto stopped = setting.start(2, keys);
    wait_until(setting.paths(name), 5);
    stopped->send(1, SIGTERM);
    CHECK(stopped->wait_all() == std::vector<int>{128 + SIGTERM, 128 + SIGTERM});
    CHECK(setting.start(2, keys)->wait_all() == kBothDone);
    CHECK(final_state(setting.paths(name)) == whole);
  }
}

TEST_CASE("a run moves between one and two GPUs, sharded or not") {
  const Setting setting;
  CHECK(setting.start(1, {"run.name=alone"})->wait(0) == 0);
  const struct {
    int world_size;
    const char* zero;
    std::int64_t until;
  } stages[] = {{1, "0", 8}, {2, "1", 16}, {2, "0", 24}, {1, "1", kSteps}};
  for (const auto& [world_size, zero, until] : stages) {
    const auto ranks =
        setting.start(world_size, {"run.name=moving", concat("parallel.zero=", zero)});
    if (until < kSteps) {
      wait_until(setting.paths("moving"), until);
      ranks->send(world_size - 1, SIGUSR1);
    }
    for (int rank = 0; rank < world_size; ++rank)
      CHECK(ranks->wait(rank) == (until < kSteps ? 128 + SIGUSR1 : 0));
  }
  const auto [loss, norm] = largest_difference(setting.paths("alone"), setting.paths("moving"));
  MESSAGE("losses differ by at most ", loss, ", gradient norms by ", norm);
  CHECK(loss <= 1e-3);
}

TEST_CASE("a rank that is killed is named within a second, and the others end") {
  const Setting setting;
  const std::pair<const char*, const char*> kinds[] = {{"copy", "0"}, {"copy", "1"}, {"nccl", "1"}};
  for (const auto& [transport, zero] : kinds) {
    const std::string name = concat("killed-", transport, "-", zero);
    const auto ranks =
        setting.start(2, {"train.steps=1000000", "run.name=" + name, concat("parallel.zero=", zero),
                          concat("parallel.transport=", transport)});
    wait_until(setting.paths(name), 3);
    ranks->send(1, SIGKILL);
    const auto start = Deadline::Clock::now();
    const bool named = happens_within(
        15, [&] { return ranks->output(0).find("lost rank 1") != std::string::npos; });
    const double named_s = seconds_since(start);
    CHECK(ranks->wait(0, 15) == 1);
    MESSAGE("named after ", named_s, " s, ended after ", seconds_since(start), " s");
    INFO(ranks->output(0));
    CHECK(named);
    CHECK(named_s < 1);
    CHECK(ranks->output(0).find("rank 0, step ") != std::string::npos);
    CHECK(ranks->wait(1, 5) == -SIGKILL);
  }
}

TEST_CASE("a rank that stands still is named when the time is over") {
  const Setting setting;
  for (const char* transport : {"copy", "nccl"}) {
    const std::string name = concat("still-", transport);
    const auto ranks =
        setting.start(2, {"train.steps=1000000", "parallel.timeout_s=3", "run.name=" + name,
                          concat("parallel.transport=", transport)});
    wait_until(setting.paths(name), 3);
    ranks->send(1, SIGSTOP);
    const auto start = Deadline::Clock::now();
    CHECK(ranks->wait(0, 20) == 1);
    MESSAGE(transport, ": ended after ", seconds_since(start), " s with a timeout of 3 s");
    CHECK(seconds_since(start) < 5);
    INFO(ranks->output(0));
    CHECK(ranks->output(0).find("rank 1 did not respond within 3 s") != std::string::npos);
    ranks->send(1, SIGCONT);
    CHECK(ranks->wait(1, 20) == 1);
  }
}

TEST_CASE("two ranks on one GPU, or with other settings, are refused by name") {
  const Setting setting;
  const auto all = setting.arguments({});
  RankProcesses sharing(
      setting.folder.path(), 2, [&](int) { return all; },
      [](int) { return std::vector<std::string>{"CUDA_VISIBLE_DEVICES=0"}; });
  CHECK(sharing.wait_all(30) == std::vector<int>{2, 2});
  for (int rank = 0; rank < 2; ++rank)
    CHECK(sharing.output(rank).find("each rank needs a GPU of its own; ranks ") !=
          std::string::npos);
  RankProcesses differing(setting.folder.path(), 2, [&](int rank) {
    return setting.arguments({rank == 1 ? "optim.lr=0.5" : "optim.lr=0.25"});
  });
  CHECK(differing.wait_all(30) == std::vector<int>{2, 2});
  CHECK(differing.output(0).find("rank 1 has 0.5") != std::string::npos);
}

TEST_CASE("a rank that fails by itself ends both, and both say which") {
  const Setting setting;
  const auto all = setting.arguments({"train.steps=1000000"});
  RankProcesses ranks(
      setting.folder.path(), 2, [&](int) { return all; },
      [](int rank) -> std::vector<std::string> {
        if (rank == 1) return {"SMOE_FAULT=gpu_collective:200:EIO"};
        return {};
      });
  CHECK(ranks.wait_all(60) == std::vector<int>{1, 1});
  for (int rank = 0; rank < 2; ++rank) {
    CAPTURE(ranks.output(rank));
    CHECK(ranks.output(rank).find("rank 1, step ") != std::string::npos);
  }
}

TEST_CASE("the launcher starts a rank on each GPU, and again after one was killed") {
  const Setting setting;
  const std::string keys = concat("train ", setting.path, " checkpoint.every=5 run.name=");
  LaunchedJob plain("--nproc-per-node 2 " + keys + "plain");
  CHECK(plain.wait() == 0);
  INFO(plain.output(), plain.error());
  CHECK(plain.output().find("2 ranks") != std::string::npos);
  LaunchedJob job("--nproc-per-node 2 --max-restarts 1 " + keys + "killed");
  REQUIRE(happens_within(60, [&] { return job.output().find("saved ") != std::string::npos; }));
  const pid_t victim = job.pid_of_rank(1);
  REQUIRE(victim > 0);
  ::kill(victim, SIGKILL);
  CHECK(job.wait() == 0);
  CAPTURE(job.error());
  CHECK(job.error().find(concat("rank 1 (local rank 1, pid ", victim, " on ")) !=
        std::string::npos);
  CHECK(final_state(setting.paths("killed")) == final_state(setting.paths("plain")));
}

TEST_CASE("SIGTERM to the launcher saves and stops both ranks at one step") {
  const Setting setting;
  LaunchedJob job(concat("--nproc-per-node 2 train ", setting.path, " run.name=term"));
  wait_until(setting.paths("term"), 5);
  job.send(SIGTERM);
  CHECK(job.wait() == 128 + SIGTERM);
  INFO(job.output(), job.error());
  CHECK(job.output().find("saved ") != std::string::npos);
  LaunchedJob rest(concat("--nproc-per-node 2 train ", setting.path, " run.name=term"));
  CHECK(rest.wait() == 0);
  CHECK(setting.start(2, {"run.name=undisturbed"})->wait_all() == kBothDone);
  CHECK(final_state(setting.paths("term")) == final_state(setting.paths("undisturbed")));
}

TEST_CASE("no rank outlives a launcher that is killed, and the GPUs' memory is free again") {
  const Setting setting;
  const std::int64_t before = free_gpu_bytes();
  LaunchedJob job(concat("--nproc-per-node 2 train ", setting.path, " train.steps=1000000"));
  wait_until(setting.paths("small"), 3);
  const pid_t ranks[] = {job.pid_of_rank(0), job.pid_of_rank(1)};
  REQUIRE(ranks[1] > 0);
  CHECK(free_gpu_bytes() < before);
  job.send(SIGKILL);
  const auto start = Deadline::Clock::now();
  CHECK(happens_within(5, [&] { return !is_running(ranks[0]) && !is_running(ranks[1]); }));
  MESSAGE("gone after ", seconds_since(start), " s");
  CHECK(happens_within(5, [&] { return free_gpu_bytes() >= before; }));
  CHECK(job.wait() == -SIGKILL);
}

TEST_CASE("a GPU that is out of memory ends both ranks, and the message says where") {
  const Setting setting;
  const Stream other(Device{DeviceType::cuda, 1});
  const StreamGuard guard(other);
  {
    const std::int64_t kept = std::int64_t{3} << 29;  // enough to start, not to train
    const Tensor taken = Tensor::empty({gpu::memory_info(1).free_bytes - kept}, DType::u8);
    const auto ranks = setting.start(
        2, {"model.d_model=1024", "model.d_expert=4096", "model.head_dim=64", "train.steps=3"});
    CHECK(ranks->wait_all(60) == std::vector<int>{1, 1});
    INFO(ranks->output(0), ranks->output(1));
    CHECK(ranks->output(1).find("rank 1") != std::string::npos);
    CHECK(ranks->output(1).find("out of memory") != std::string::npos);
    CHECK(ranks->output(0).find("out of memory") != std::string::npos);
  }
  release_cached_memory();
}

TEST_CASE("a NaN on one rank makes both skip that update") {
  const Setting setting;
  const auto all = setting.arguments({"train.on_nonfinite=skip", "log.every=1"});
  RankProcesses ranks(
      setting.folder.path(), 2, [&](int) { return all; },
      [](int rank) -> std::vector<std::string> {
        if (rank == 1) return {"SMOE_FAULT=loss:12:nan"};
        return {};
      });
  CHECK(ranks.wait_all(60) == kBothDone);
  INFO(ranks.output(0), ranks.output(1));
  std::vector<std::int64_t> skipped;
  read_metrics(
      setting.paths("small").metrics_path(),
      [&](const Report& report) {
        if (const auto* step = std::get_if<StepReport>(&report); step && step->is_skipped)
          skipped.push_back(step->step);
      },
      [](const std::string& line) { FAIL(line); });
  CHECK(skipped.size() == 1);
}

TEST_CASE("the plan of two ranks is within 2 % of the memory that they use") {
  Setting setting;
  setting.config.model.d_model = 512;
  setting.config.model.d_expert = 1024;
  setting.config.train.seq_len = 256;
  write_file_atomically(setting.path, to_yaml(setting.config));
  for (const bool zero : {false, true}) {
    CAPTURE(zero);
    const std::string name = concat("planned-", zero ? 1 : 0);
    CHECK(setting.start(2, {"run.name=" + name, concat("parallel.zero=", zero ? 1 : 0)})
              ->wait_all() == kBothDone);
    std::int64_t peak = 0;
    read_metrics(
        setting.paths(name).metrics_path(),
        [&](const Report& report) {
          if (const auto* step = std::get_if<StepReport>(&report))
            peak = std::max(peak, step->peak_bytes);
        },
        [](const std::string& line) { FAIL(line); });
    const Plan plan = make_plan(setting.config, 2);
    const std::int64_t planned = plan.ranks[zero ? 1 : 0].memory.total_peak_bytes;
    MESSAGE("zero ", zero, ": planned ", planned, ", used ", peak);
    CHECK(static_cast<double>(planned) == doctest::Approx(peak).epsilon(0.02));
  }
}
