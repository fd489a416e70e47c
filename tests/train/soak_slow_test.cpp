// A long run of the program: memory, open descriptors and the number of files do not grow.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>

#include "core/system/folder.h"
#include "tests/support/counts.h"
#include "tests/train/small_run.h"
#include "tests/train/smoe_process.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Use {
  std::int64_t resident_bytes = 0;
  std::size_t num_descriptors = 0, num_files = 0;
};

// The current resource use of a process. Throws: SystemError once it has ended.
Use use_of(pid_t id, const std::string& run_folder) {
  const std::string process = concat("/proc/", id);
  long long size = 0, resident = 0;
  if (std::FILE* file = std::fopen((process + "/statm").c_str(), "r")) {
    if (std::fscanf(file, "%lld %lld", &size, &resident) != 2) resident = 0;
    std::fclose(file);
  }
  return {resident * ::sysconf(_SC_PAGESIZE), list_folder(process + "/fd").size(),
          list_folder(run_folder).size()};
}

}  // namespace

TEST_CASE("memory, descriptors and files of a long run do not grow") {
  SmallRun small(fast_parent());
  const TemporaryFolder& folder = small.folder;
  Config& config = small.config;
  config.model.num_layers = 1;
  config.train.steps = repetitions(2000, 10'000);
  config.train.seq_len = 8;
  config.train.micro_batch = config.train.global_batch = 2;
  config.log.every = 10;
  config.train.eval_every = config.train.steps / 10;
  config.train.eval_batches = 2;
  config.checkpoint.every = config.train.steps / 50;
  overwrite(folder / "config.yaml", to_yaml(config));
  SmoeProcess process({"train", folder / "config.yaml"}, folder / "output.txt");
  const std::string run = config.run.folder(), checkpoints = run + "/checkpoints";
  // Of the second and the last tenth of the steps: the largest use, but the fewest descriptors,
  // because a save opens some for a moment that a sample may miss.
  Use early, late;
  early.num_descriptors = late.num_descriptors = 1 << 20;
  while (!process.has_ended()) {
    ::usleep(2000);
    if (kind_of(checkpoints) != PathKind::folder) continue;
    std::int64_t step = 0;
    for (const FolderEntry& entry : list_folder(checkpoints))
      if (entry.name.starts_with("step-")) step = std::atoll(entry.name.c_str() + 5);
    const std::int64_t tenth = step * 10 / config.train.steps;
    if (tenth != 1 && tenth != 9) continue;
    Use& most = tenth == 1 ? early : late;
    try {
      const Use now = use_of(process.id(), run);
      most.resident_bytes = std::max(most.resident_bytes, now.resident_bytes);
      most.num_descriptors = std::min(most.num_descriptors, now.num_descriptors);
      most.num_files = std::max(most.num_files, now.num_files);
    } catch (const SystemError&) {
      break;
    }
  }
  CHECK(process.wait() == 0);
  REQUIRE(early.resident_bytes > 0);
  REQUIRE(late.resident_bytes > 0);
  const std::int64_t drift = late.resident_bytes - early.resident_bytes;
  if (!kIsSanitized) CHECK(drift < 1 << 20);  // sanitizers retain freed memory
  CHECK(late.num_descriptors <= early.num_descriptors);
  CHECK(late.num_files <= early.num_files);
  MESSAGE(config.train.steps, " steps: memory grew by ", drift / 1024, " KiB, descriptors ",
          late.num_descriptors, " at least, files ", late.num_files);
}
