#include "train/report/metrics_file.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "tests/support/temporary_folder.h"

using namespace smoe;

namespace {

StepReport step_report(std::int64_t step) {
  StepReport report;
  report.step = step;
  report.steps = 100;
  report.loss = 5.0 / static_cast<double>(step);
  return report;
}

// The steps of the lines in the file, in order.
std::vector<std::int64_t> steps_in(const std::string& path) {
  std::istringstream text(read_file(path, 1 << 20));
  std::vector<std::int64_t> steps;
  for (std::string line; std::getline(text, line);)
    steps.push_back(nlohmann::json::parse(line).at("step"));
  return steps;
}

}  // namespace

TEST_CASE("a line is one JSON object with exact numbers") {
  StepReport report = step_report(3);
  report.tokens = 3 * 4096;
  report.grad_norm = 0.1 + 0.2;
  report.lr = 1e-310;
  report.dead_experts = 2;
  report.is_skipped = true;
  const std::string line = metrics_line(report);
  CHECK(line.find('\n') == std::string::npos);
  const auto parsed = nlohmann::json::parse(line);
  CHECK(parsed.at("kind") == "step");
  CHECK(parsed.at("step") == 3);
  CHECK(parsed.at("tokens") == 3 * 4096);
  CHECK(parsed.at("loss").get<double>() == 5.0 / 3);
  CHECK(parsed.at("grad_norm").get<double>() == 0.1 + 0.2);
  CHECK(parsed.at("lr").get<double>() == 1e-310);
  CHECK(parsed.at("dead_experts") == 2);
  CHECK(parsed.at("skipped") == true);
  CHECK(!parsed.contains("nonfinite"));
}

TEST_CASE("NaN and infinity are null and listed in nonfinite") {
  StepReport report = step_report(3);
  report.loss = std::numeric_limits<double>::quiet_NaN();
  report.grad_norm = -std::numeric_limits<double>::infinity();
  const auto parsed = nlohmann::json::parse(metrics_line(report));
  CHECK(parsed.at("loss").is_null());
  CHECK(parsed.at("grad_norm").is_null());
  CHECK(parsed.at("nonfinite").dump() == R"({"grad_norm":"-inf","loss":"nan"})");
}

TEST_CASE("a line survives a round trip bit-identically") {
  StepReport step = step_report(3);
  step.loss = std::nan("");
  step.grad_norm = -std::numeric_limits<double>::infinity();
  step.lr = 0.1 + 0.2;
  step.memory_bytes = {1, 2, 3, 4, 5};
  step.is_skipped = true;
  for (const std::int64_t rows : {7, 0}) {
    LayerReport layer{.expert_rows = {rows, 9}};
    layer.router = concat(rows, ".self_attn.gate");
    layer.load = expert_load(layer.expert_rows);
    layer.z_loss = std::numeric_limits<double>::infinity();
    step.layers.push_back(layer);
  }
  ValidationReport validation{.step = 4, .steps = 9, .bits_per_byte = 1.0 / 3, .seconds = 2};
  StartReport start{.step = 3, .time = "2026-03-21T14:05:09Z", .device = "cpu", .threads = 2};
  for (const Report& report : {Report(start), Report(step), Report(validation)}) {
    const std::string line = metrics_line(report);
    const Report read = parse_metrics_line(line);
    CHECK(read.index() == report.index());
    CHECK(metrics_line(read) == line);
    CHECK(step_of(read) == step_of(report));
  }
  const auto json = nlohmann::json::parse(metrics_line(step));
  CHECK(json.at("memory").at("optimizer") == 3);
  CHECK(json.at("layers").at("expert_rows") == nlohmann::json::parse("[[7,9],[0,9]]"));
  CHECK(json.at("layers").at("router")[0] == "7.self_attn.gate");
  CHECK(json.at("layers").at("dead_experts") == nlohmann::json::parse("[0,1]"));
  CHECK(json.at("nonfinite").at("layers.z_loss.1") == "inf");
}

TEST_CASE("a line of another kind, type or shape is refused") {
  for (const std::string line :
       {"", "{", "[]", R"({"step":1})", R"({"kind":"stop","step":1})",
        R"({"kind":"step","step":"1"})", R"({"kind":"step","step":-1})",
        R"({"kind":"step","step":-1e300})", R"({"kind":"step","step":9223372036854775807})",
        R"({"kind":"step","layers":{"expert_rows":[[-1]]}})",
        R"({"kind":"step","layers":{"expert_rows":[[1e300]]}})",
        R"({"kind":"step","layers":{"z_loss":3}})",
        R"({"kind":"step","layers":{"z_loss":[1],"imbalance":[1,2]}})",
        R"({"kind":"step","layers":{"expert_rows":[["a"]]}})", R"({"kind":"step","layers":3})",
        R"({"kind":"step","nonfinite":[],"loss":null})"}) {
    CAPTURE(line);
    CHECK_THROWS_AS(parse_metrics_line(line), UsageError);
  }
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl", good = metrics_line(step_report(1)) + "\n";
  overwrite(path, good + good + "{}\n" + good);
  int lines = 0;
  std::string warning;
  const auto count = [&](const Report&) { ++lines; };
  const auto keep = [&](const std::string& line) { warning += line; };
  read_metrics(path, count, keep);
  CHECK(lines == 3);
  CHECK(warning == path +
                       ":3: must be a line of metrics written by this program; passed over, "
                       "with 0 more damaged lines");
  overwrite(path, good + good + "{\"kind\":");
  warning.clear();
  read_metrics(path, count, keep);
  CHECK(lines == 5);
  CHECK(warning.empty());
}

TEST_CASE("the line of a validation") {
  ValidationReport report;
  report.step = 10;
  report.bits_per_byte = 2.5;
  const auto parsed = nlohmann::json::parse(metrics_line(report));
  CHECK(parsed.at("kind") == "validation");
  CHECK(parsed.at("bits_per_byte").get<double>() == 2.5);
}

TEST_CASE("a resumed run removes the lines that it will write again") {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  {
    MetricsFile file(path, 0);
    for (std::int64_t step = 1; step <= 7; ++step) file.write(step_report(step));
    ValidationReport validation;
    validation.step = 7;
    file.write(validation);
    file.sync();
  }
  CHECK(steps_in(path) == std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7, 7});
  { MetricsFile(path, 7); }
  CHECK(steps_in(path) == std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7, 7});
  MetricsFile(path, 5).write(step_report(6));
  CHECK(steps_in(path) == std::vector<std::int64_t>{1, 2, 3, 4, 5, 6});
  { MetricsFile(path, 0); }
  CHECK(read_file(path, 100).empty());
}

TEST_CASE("a damaged line costs no other line") {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  const auto line = [](std::int64_t step) { return metrics_line(step_report(step)) + "\n"; };
  const std::string bad[] = {"\n",
                             "{\n",
                             "[]\n",
                             "{\"step\":\"2\"}\n",
                             "{\"step\":2.5}\n",
                             "{\"kind\":\"step\",\"step\":2.5,\"loss\":[]}\n",
                             "{\"step\":2}\n",
                             std::string(5000, '\0') + "\n",
                             std::string(200'000, '[') + "\n",
                             std::string(5 << 20, 'x') + "\n",
                             line(90)};  // a damaged digit
  for (const std::string& damaged : bad) {
    // In the middle it stays with the lines around it; at the end it is removed.
    overwrite(path, line(1) + damaged + line(2) + damaged + line(60));
    { MetricsFile(path, 50); }
    CHECK(read_file(path, 1 << 24) == line(1) + damaged + line(2));
    std::vector<std::int64_t> steps;
    read_metrics(
        path, [&](const Report& report) { steps.push_back(step_of(report)); },
        [](const std::string&) {});
    CHECK(steps.front() == 1);
    CHECK(steps.back() == 2);
  }
  overwrite(path, line(1) + "{\"step\":2,");  // cut by a kill
  MetricsFile(path, 50).write(step_report(2));
  CHECK(steps_in(path) == std::vector<std::int64_t>{1, 2});
}

TEST_CASE("a file longer than one block is truncated at the right line") {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  std::string text;
  std::size_t kept = 0;
  for (std::int64_t step = 1; step <= 9000; ++step) {
    text += metrics_line(step_report(step)) + "\n";
    if (step == 8000) kept = text.size();
  }
  REQUIRE(kept > std::size_t{1} << 20);
  write_file_atomically(path, text);
  { MetricsFile(path, 8000); }
  CHECK(read_file(path, 1 << 24) == text.substr(0, kept));
}
