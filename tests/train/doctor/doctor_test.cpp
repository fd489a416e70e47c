#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/support/temporary_folder.h"
#include "tests/support/text.h"
#include "tests/train/run_smoe.h"
#include "train/doctor/finding.h"
#include "train/doctor/kernel_checks.h"
#include "train/doctor/speed_checks.h"

using namespace smoe;
using namespace smoe::test;

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

TEST_CASE("smoe doctor prints JSON") {
  const TemporaryFolder folder;
  const Outcome outcome =
      run_smoe("doctor --device cpu --json --folder " + folder.path() + " 2> /dev/null");
  CHECK(outcome.exit_code == 0);
  const auto json = nlohmann::json::parse(outcome.output);
  CHECK(json.front().at("subject") == "smoe");
  CHECK(json.back().at("subject") == "disk of " + folder.path());
}
