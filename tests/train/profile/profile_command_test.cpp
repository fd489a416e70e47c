// `smoe profile` as a user runs it.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/system/file.h"
#include "core/system/folder.h"
#include "tests/support/text.h"
#include "tests/train/profile/trace_reader.h"
#include "tests/train/run_smoe.h"
#include "tests/train/small_run.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr std::int64_t kMaxFile = 1 << 24;

// A small run's configuration as a file.
std::string config_file(const SmallRun& run) {
  const std::string path = run.folder.path() + "/config.yaml";
  write_file_atomically(path, to_yaml(run.config));
  return path;
}

}  // namespace

TEST_CASE("smoe profile writes page, JSON and trace, and compares with an earlier one") {
  const SmallRun run;
  const std::string config = config_file(run), output = run.folder.path() + "/profile";
  const Outcome first =
      run_smoe("profile " + config + " --steps 1 --warmup 1 --output " + output + " 2> /dev/null");
  CHECK(first.exit_code == 0);
  CHECK(contains(first.output, "GEMMs"));
  CHECK(contains(first.output, output + "/profile.html"));
  const auto json = nlohmann::json::parse(read_file(output + "/profile.json", kMaxFile));
  CHECK(json.at("run") == "small");
  CHECK(json.at("device").at("power").at("unavailable") == "not measured on a CPU");
  CHECK(json.at("measured") == json.at("planned"));
  CHECK(kind_of(output + "/trace.json.gz") == PathKind::file);
  CHECK(kind_of(run.config.run.folder()) == PathKind::none);

  const Outcome second =
      run_smoe("profile " + config + " --steps 1 --warmup 1 train.recompute=block --output " +
               output + "2 --against " + output + "/profile.json 2> /dev/null");
  CHECK(second.exit_code == 0);
  CHECK(contains(second.output, "changes"));
  CHECK(contains(read_file(output + "2/profile.html", kMaxFile), "(recompute)"));
}

TEST_CASE("smoe profile refuses what it cannot do, in one line") {
  const SmallRun run;
  const std::string config = config_file(run);
  const auto refusal = [&](const std::string& arguments) {
    const Outcome outcome = run_smoe("profile " + config + " " + arguments + " 2>&1");
    CHECK(outcome.exit_code == 2);
    return outcome.output;
  };
  CHECK(contains(refusal("--mode fast"), "--mode: must be auto, events or cupti; got fast"));
  CHECK(contains(refusal("--ranks 1"), "--ranks: must be 0 or all; got 1"));
  CHECK(contains(refusal("--steps 0"), "--steps: must be at least 1; got 0"));
  CHECK(contains(refusal("--against " + config), "config.yaml: invalid JSON"));
}

TEST_CASE("ranks are profiled together, and rank 0 reports the times of all") {
  const SmallRun run;
  const std::string output = run.folder.path() + "/profile";
  const Outcome outcome = run_smoe("launch --nproc-per-node 2 profile " + config_file(run) +
                                   " --steps 1 --warmup 1 --output " + output + " 2> /dev/null");
  CHECK(outcome.exit_code == 0);
  CHECK(contains(outcome.output, "waiting for other ranks"));
  const auto json = nlohmann::json::parse(read_file(output + "/profile.json", kMaxFile));
  CHECK(json.at("ranks") == 2);
  CHECK(json.at("rank_times").size() == 2);
  CHECK(json.at("communication").size() >= 3);  // a bucket, the results, the squares
  CHECK(json.at("communication").at(0).at("operation") == "all_reduce");
  CHECK(json.at("communication").at(0).at("phase") == "backward");
  CHECK(json.at("communication").at(0).at("last_rank").get<int>() >= 0);

  // The share that the trace shows.
  const auto tracks = traced_events(
      nlohmann::json::parse(gunzipped(read_file(output + "/trace.json.gz", kMaxFile))));
  const auto& kernels = tracks.at({2, 3});
  double communication = 0, hidden = 0;
  for (const TracedEvent& operation : tracks.at({3, 1})) {
    communication += operation.end - operation.begin;
    for (const TracedEvent& kernel : kernels)
      hidden += std::max(
          0.0, std::min(operation.end, kernel.end) - std::max(operation.begin, kernel.begin));
  }
  REQUIRE(communication > 0);
  const double share = json.at("rank_times").at(0).at("hidden_share");
  CHECK(std::abs(share - hidden / communication) < 0.05);

  const Outcome alone =
      run_smoe("launch --nproc-per-node 2 profile " + config_file(run) +
               " --ranks 0 --steps 1 --warmup 1 --output " + output + "0 2> /dev/null");
  CHECK(alone.exit_code == 0);
  const auto first = nlohmann::json::parse(read_file(output + "0/profile.json", kMaxFile));
  CHECK(first.at("ranks") == 2);
  CHECK(first.at("rank_times").empty());
  CHECK(first.at("communication").size() == json.at("communication").size());
}
