#include <doctest/doctest.h>

#include "core/system/file.h"
#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/text.h"
#include "tests/train/small_run.h"
#include "train/compare/compare_page.h"
#include "train/config/run_paths.h"
#include "train/report/metrics_line.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// A run's folder with metrics of three steps and a validation.
void write_run(const std::string& path, double lr, double loss) {
  make_folders(path);
  const RunPaths paths(path);
  Config config = small_config(path);
  config.optim.lr = lr;
  write_file_atomically(paths.config_path(), to_yaml(config));
  std::string lines = metrics_line(StartReport{.steps = 3}) + "\n";
  for (std::int64_t step = 1; step <= 3; ++step)
    lines += metrics_line(StepReport{.step = step,
                                     .steps = 3,
                                     .tokens = 100 * step,
                                     .loss = loss + 1.0 / static_cast<double>(step),
                                     .tokens_per_s = 1000 * loss}) +
             "\n";
  lines += metrics_line(ValidationReport{.step = 3, .steps = 3, .loss = loss}) + "\n";
  write_file_atomically(paths.metrics_path(), lines);
}

void ignore(const std::string&) {}

}  // namespace

TEST_CASE("runs are compared by results and by the keys that differ") {
  const TemporaryFolder folder;
  write_run(folder.path() + "/a", 0.01, 2.5);
  write_run(folder.path() + "/b", 0.02, 2.25);
  const auto runs = read_runs({folder.path() + "/a", folder.path() + "/b/"}, ignore);
  CHECK(runs[0].label == "a");
  CHECK(runs[1].label == "b");
  const auto differences = differences_of(runs);
  bool has_lr = false;
  for (const Difference& d : differences) {
    CHECK(d.values[0] != d.values[1]);
    if (d.key == "optim.lr") has_lr = d.values == std::vector<std::string>{"0.01", "0.02"};
  }
  CHECK(has_lr);
  const std::string text = compare_text(runs);
  CHECK(contains(text, "2.5000"));
  CHECK(contains(text, "2.2500 at 3"));
  CHECK(contains(text, "optim.lr"));
  const std::string page = compare_page(runs);
  for (const char* part : {"Training loss", "Validation loss", "Throughput", "optim.lr"})
    CHECK(contains(page, part));
  CHECK(page.size() < 200'000);
}

TEST_CASE("a comparison needs two different runs") {
  const TemporaryFolder folder;
  write_run(folder.path() + "/a", 0.01, 2.5);
  const std::string a = folder.path() + "/a";
  CHECK_THROWS_WITH_AS(read_runs({a}, ignore), "compare: at least two runs are needed; got 1",
                       UsageError);
  CHECK_THROWS_AS(read_runs({a, a + "/."}, ignore), UsageError);
  CHECK_THROWS_WITH_AS(
      read_runs({a, folder.path()}, ignore),
      (folder.path() + ": must be the folder of a run; got one without metrics.jsonl").c_str(),
      UsageError);
}
