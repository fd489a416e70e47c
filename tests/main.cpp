// Runs the tests of one program. Unlike doctest's own main, a filter that selects no test case is a
// failure: a test that never ran must not count as passed. The programs of the GPUs' tests end
// with ctest's code for a skipped test where there are fewer GPUs than SMOE_NEEDS_GPU.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/system/sandbox.h"

#ifdef SMOE_NEEDS_GPU
#include "core/base/check.h"
#include "core/device.h"
#include "core/gpu.h"
#endif

namespace {

constexpr int kSkipped = 77;

// Empty, or why these tests cannot run here.
std::string reason_to_skip() {
#ifdef SMOE_NEEDS_GPU
  // Ranks that are threads of one process wait for each other on their devices. A kernel that is
  // loaded at its first launch waits for its device, too, and keeps the other rank from launching;
  // streams that share a connection to the device wait for each other.
  if (SMOE_NEEDS_GPU > 1) {
    ::setenv("CUDA_MODULE_LOADING", "EAGER", 0);
    ::setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
  }
  try {
    smoe::select_device("cuda");
    if (const int seen = smoe::gpu::num_visible(); seen < SMOE_NEEDS_GPU)
      return smoe::concat("skipped: these tests need ", SMOE_NEEDS_GPU, " GPUs; this process sees ",
                          seen);
  } catch (const smoe::UsageError& error) {
    return smoe::concat("skipped: no GPU (", error.what(), ")");
  }
#endif
  return "";
}

unsigned selected = 0;

struct CountSelected : doctest::IReporter {
  explicit CountSelected(const doctest::ContextOptions&) {}
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats& stats) override {
    selected = stats.numTestCasesPassingFilters;
  }
  void test_case_start(const doctest::TestCaseData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};
REGISTER_LISTENER("count_selected", 1, CountSelected);

}  // namespace

int main(int argc, char** argv) {
  smoe::serve_sandboxed_task(argc, argv);
  if (const std::string reason = reason_to_skip(); !reason.empty()) {
    std::puts(reason.c_str());
    return kSkipped;
  }
  doctest::Context context(argc, argv);
  const int failed = context.run();
  if (context.shouldExit()) return failed;
  if (selected == 0) {
    std::fputs("no test case was selected\n", stderr);
    return 1;
  }
  return failed;
}
