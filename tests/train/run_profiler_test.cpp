#include "train/run_profiler.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "core/system/file.h"
#include "core/system/folder.h"
#include "tests/support/text.h"
#include "tests/train/small_run.h"
#include "train/config/run_paths.h"
#include "train/open_run.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr std::int64_t kMaxFile = 1 << 24;

std::string weights_of(const Config& config) {
  return read_file(
      RunPaths(config.run.folder()).checkpoints_path() + "/step-00000012/shard-00000.bin",
      kMaxFile);
}

}  // namespace

TEST_CASE("a run profiles a few steps now and then, and trains as without") {
  const SmallRun small;
  Config plain = small.named("plain"), profiled = small.named("profiled");
  plain.train.eval_every = profiled.train.eval_every = 5;
  profiled.profile = {.every = 4, .steps = 2};
  CHECK(open_run(plain)->train() == 0);
  CHECK(open_run(profiled)->train() == 0);
  CHECK(weights_of(profiled) == weights_of(plain));

  const RunPaths paths(profiled.run.folder());
  CHECK(kind_of(RunPaths(plain.run.folder()).profiles_path()) == PathKind::none);
  // Of steps 5 and 6, and of 9 and 10; the validation after step 5 ends the first early.
  REQUIRE(list_folder(paths.profiles_path()).size() == 2);
  for (const auto& [folder, steps] : {std::pair{"/step-00000005", 1}, {"/step-00000010", 2}}) {
    const std::string path = paths.profiles_path() + folder;
    CAPTURE(path);
    const auto json = nlohmann::json::parse(read_file(path + "/profile.json", kMaxFile));
    CHECK(json.at("steps") == steps);
    CHECK(json.at("run") == "profiled");
    CHECK(json.at("measured") == json.at("planned"));
    CHECK(json.at("step").at("before_ms") > 0);
    const double whole = json.at("step").at("ms");
    CHECK(json.at("step").at("busy_ms").get<double>() <= whole);
    CHECK(contains(read_file(path + "/profile.html", kMaxFile), "Verdict"));
    CHECK(kind_of(path + "/trace.json.gz") == PathKind::file);
  }
  const std::string log = read_file(paths.log_path(), kMaxFile);
  CHECK(contains(log, "profile of 1 step to step 5: " + paths.profiles_path() +
                          "/step-00000005/profile.html"));
  CHECK(contains(log, "profile of 2 steps to step 10: "));
  CHECK(current_instrument() == nullptr);
}
