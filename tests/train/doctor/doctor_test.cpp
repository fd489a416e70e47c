#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/support/temporary_folder.h"
#include "tests/support/text.h"
#include "tests/train/run_smoe.h"
#include "train/doctor/finding.h"
#include "train/doctor/kernel_checks.h"
#include "train/doctor/rank_checks.h"
#include "train/doctor/speed_checks.h"
#include "train/doctor/version_checks.h"

using namespace smoe;
using namespace smoe::test;

namespace {

/// Claims a second rank, whose values it never adds.
class DeafCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int world_size() const override { return 2; }
  CollectiveHandle all_reduce(const Tensor&) override { return barrier(); }
  CollectiveHandle reduce_scatter(const Tensor&) override { return barrier(); }
  CollectiveHandle all_gather(const Tensor&) override { return barrier(); }
  CollectiveHandle broadcast(const Tensor&, int) override { return barrier(); }
  CollectiveHandle broadcast_each(const std::vector<RootedTensor>&) override { return barrier(); }
  CollectiveHandle barrier() override { return single_communicator().barrier(); }
  void set_timeout(double) override {}
  void cancel() override {}
};

}  // namespace

TEST_CASE("findings survive JSON, and the worst decides") {
  const Findings findings = {{.subject = "a", .result = "fine"},
                             {Health::yellow, "b", "slow \"disk\"", "use another"}};
  const Findings read = parse_findings(findings_json(findings), "file");
  REQUIRE(read.size() == 2);
  CHECK(read[1].health == Health::yellow);
  CHECK(read[1].result == findings[1].result);
  CHECK(read[1].advice == "use another");
  CHECK(worst_of(findings) == Health::yellow);
  CHECK(worst_of({}) == Health::green);
  CHECK(contains(findings_text(findings, false), "2 checks: 1 warnings, 0 failures"));
  for (const char* json :
       {"{}", "[{}]", "[1", R"([{"health":"blue","subject":"","result":"","advice":""}])"})
    CHECK_THROWS_AS(parse_findings(json, "file"), UsageError);
}

TEST_CASE("each family of kernels on the CPU agrees with double") {
  const Findings findings = check_kernels();
  CHECK(findings.size() == 8);
  for (const Finding& finding : findings) {
    CAPTURE(finding.subject);
    CAPTURE(finding.result);
    CHECK(finding.health == Health::green);
  }
}

TEST_CASE("a disk that cannot be written is a failure") {
  const TemporaryFolder folder;
  const Findings good = check_disk(folder.path());
  REQUIRE(good.size() == 1);
  CHECK(good[0].health != Health::red);
  const Findings bad = check_disk(folder.path() + "/missing");
  REQUIRE(bad.size() == 1);
  CHECK(bad[0].health == Health::red);
}

TEST_CASE("ranks of this machine all-reduce, and wrong sums are a failure") {
  constexpr std::int64_t kBytes = (std::int64_t{5} << 20) + 4;  // no multiple of the pattern
  const Findings findings = check_ranks(kBytes);
  REQUIRE(findings.size() == 1);
  CAPTURE(findings[0].result);
  CHECK(findings[0].health != Health::red);
  CHECK(contains(findings[0].result, "5.00 MiB among 2 ranks"));
  CHECK(contains(findings[0].result, "TCP"));

  DeafCommunicator deaf;
  const Finding wrong = check_all_reduce(deaf, kBytes);
  CHECK(wrong.health == Health::red);
  CHECK(contains(wrong.result, "of 1310721 sums are wrong"));
  CHECK(!wrong.advice.empty());
}

TEST_CASE("OpenBLAS with kernels for an older CPU is a warning") {
  CHECK(cpu_gemm_finding("OpenBLAS Cooperlake").health == Health::green);
  const Finding old = cpu_gemm_finding("OpenBLAS Prescott");
  CHECK(old.health == Health::yellow);
  CHECK(contains(old.advice, "OPENBLAS_CORETYPE"));
}

TEST_CASE("the all-reduce fits into half of the memory that is left") {
  constexpr std::int64_t kMiB = std::int64_t{1} << 20;
  CHECK(fitting_bytes(1024 * kMiB, 2, 4096 * kMiB) == 1024 * kMiB);
  CHECK(fitting_bytes(1024 * kMiB, 2, 4095 * kMiB) == 512 * kMiB);
  CHECK(fitting_bytes(1024 * kMiB, 2, 0) == kMiB);
}

TEST_CASE("smoe doctor prints JSON") {
  const TemporaryFolder folder;
  const Outcome outcome = run_smoe("doctor --device cpu --json --all-reduce-mib 8 --folder " +
                                   folder.path() + " 2> /dev/null");
  CHECK(outcome.exit_code == 0);
  const auto json = nlohmann::json::parse(outcome.output);
  CHECK(json.front().at("subject") == "smoe");
  CHECK(json.back().at("subject") == "disk of " + folder.path());
}
