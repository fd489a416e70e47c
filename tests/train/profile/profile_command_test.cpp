// `smoe profile` as a user runs it.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "core/system/file.h"
#include "core/system/folder.h"
#include "tests/support/text.h"
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
}
