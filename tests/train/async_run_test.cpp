// Runs with checkpoint.async, which save in the background.
#include <doctest/doctest.h>

#include <sstream>

#include "core/system/fault.h"
#include "core/system/folder.h"
#include "tests/train/small_run.h"
#include "train/config/run_paths.h"
#include "train/open_run.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Setting : SmallRun {
  Setting() {
    config.train.steps = 30;
    config.log.every = 5;
    config.checkpoint.every = 5;
    config.checkpoint.keep_every = 5;
  }
  Config named(const std::string& name, bool async) const {
    Config copy = SmallRun::named(name);
    copy.checkpoint.async = async;
    return copy;
  }
};

std::string read_all(const std::string& path) {
  return read_file(path, 1 << 24);
}

std::string checkpoints_of(const Config& config) {
  return config.run.folder() + "/checkpoints/";
}

// A manifest without the lines that name the run: its configuration, and the digest of them all.
std::string without_run(const std::string& manifest) {
  std::istringstream lines(manifest);
  std::string rest, line;
  while (std::getline(lines, line))
    if (!line.starts_with("\"config\":") && !line.starts_with("\"manifest_digest\":"))
      rest += line + "\n";
  return rest;
}

// Checks that the checkpoints of two runs are bit-identical.
void check_same_checkpoints(const Config& a, const Config& b) {
  const auto entries = list_folder(checkpoints_of(a));
  CHECK(entries.size() == 6);
  CHECK(list_folder(checkpoints_of(b)).size() == entries.size());
  for (const FolderEntry& entry : entries)
    for (const char* file : {"/manifest.json", "/shard-00000.bin"})
      CHECK(without_run(read_all(checkpoints_of(a) + entry.name + file)) ==
            without_run(read_all(checkpoints_of(b) + entry.name + file)));
}

}  // namespace

TEST_CASE("background and synchronous saves leave the same checkpoints") {
  const Setting setting;
  const Config waits = setting.named("waits", false), trains = setting.named("trains", true);
  CHECK(open_run(waits)->train() == 0);
  CHECK(open_run(trains)->train() == 0);
  check_same_checkpoints(waits, trains);
  const std::string log = read_all(RunPaths(trains.run.folder()).log_path());
  std::size_t at = 0;
  for (std::int64_t step = 5; step <= 30; step += 5) {
    at = log.find("saved " + checkpoints_of(trains) + checkpoint_name(step) + "\n", at);
    CHECK(at != std::string::npos);
  }

  SUBCASE("and a run resumes from any of them") {
    remove_folder(checkpoints_of(trains) + checkpoint_name(30));
    remove_folder(checkpoints_of(trains) + checkpoint_name(25));
    CHECK(open_run(trains)->train() == 0);
    check_same_checkpoints(waits, trains);
  }
}

TEST_CASE("a failed background save ends the run with its error and loses no other checkpoint") {
  const Setting setting;
  const Config waits = setting.named("waits", false), trains = setting.named("trains", true);
  CHECK(open_run(waits)->train() == 0);
  {
    // The first four folders created are runs, the run, its checkpoints and the first checkpoint.
    rename_path(waits.run.dir, waits.run.dir + "-aside");
    const FaultScope scope("mkdir:5:ENOSPC");
    const std::string message = message_of([&] { open_run(trains)->train(); });
    CHECK(message ==
          "make folder " + checkpoints_of(trains) + ".tmp-step-00000010: No space left on device");
    const auto entries = list_folder(checkpoints_of(trains));
    REQUIRE(entries.size() == 1);
    CHECK(entries[0].name == "step-00000005");
  }
  CHECK(open_run(trains)->train() == 0);
  rename_path(waits.run.dir + "-aside/waits", waits.run.folder());
  check_same_checkpoints(waits, trains);
}
