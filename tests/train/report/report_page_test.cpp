#include "train/report/report_page.h"

#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "tests/train/config/valid_config.h"
#include "train/report/chart.h"
#include "train/report/load_map.h"
#include "train/report/metrics_line.h"

using namespace smoe;

namespace {

const PageStatus kStatus{.state = RunState::running, .updated = "2026-03-21T14:05:09Z"};

StepReport step_at(std::int64_t step, std::size_t num_layers = 2, std::size_t num_experts = 4) {
  StepReport report;
  report.step = step;
  report.steps = 100'000;
  report.loss = 3 + std::sin(static_cast<double>(step));
  report.grad_norm = 1 + std::cos(static_cast<double>(step));
  report.lr = 1e-3;
  report.tokens_per_s = 12'000;
  report.step_s = 0.1;
  report.peak_bytes = 5000;
  report.memory_bytes = {1000, 1000, 1000, 1900, 100};
  report.layers.resize(num_layers);
  for (std::size_t l = 0; l < num_layers; ++l) {
    LayerReport& layer = report.layers[l];
    for (std::size_t e = 0; e < num_experts; ++e)
      layer.expert_rows.push_back((step * 7919 + static_cast<std::int64_t>(l * 31 + e * 17)) % 40);
    layer.load = expert_load(layer.expert_rows);
  }
  return report;
}

// The first closing tag without an opening tag, or the last unclosed one; empty if balanced.
std::string unbalanced_tag(const std::string& html) {
  std::vector<std::string> open;
  for (std::size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at + 1)) {
    const std::size_t end = html.find('>', at);
    std::string tag = html.substr(at + 1, end - at - 1);
    if (tag.starts_with("!") || tag.starts_with("meta") || tag.ends_with("/")) continue;
    tag = tag.substr(0, tag.find(' '));
    if (tag.starts_with("/")) {
      if (open.empty() || "/" + open.back() != tag) return tag;
      open.pop_back();
    } else {
      open.push_back(tag);
    }
    // These two contain no tags.
    if (tag == "style" || tag == "script") at = html.find("</" + tag, at) - 1;
  }
  return open.empty() ? "" : open.back();
}

}  // namespace

TEST_CASE("a page is complete whatever the reports") {
  const Config config = parse_config(kValid, "a.yaml");
  RunHistory history;
  const auto check = [&](const char* what) {
    CAPTURE(what);
    const std::string page = report_page(history, config, kStatus);
    CHECK(unbalanced_tag(page) == "");
    CHECK(page.ends_with("</html>\n"));
    CHECK(page.find("://") == std::string::npos);
    // A number that is not finite would break a path.
    for (const char* bad : {"M nan", "nan ", "inf ", "Mnan", "-nan", "Minf", "NaN,"})
      CHECK(page.find(bad) == std::string::npos);
  };
  check("nothing");
  history.add(StartReport{.steps = 100, .time = "now", .device = "cpu"});
  history.add(ValidationReport{.step = 0, .loss = 5, .bits_per_byte = 8});
  check("a validation");
  StepReport bad = step_at(1);
  bad.loss = bad.grad_norm = std::nan("");
  bad.layers[0].expert_rows.assign(4, 0);
  bad.is_skipped = true;
  history.add(bad);
  check("a step that was skipped");
  history.add(step_at(2));
  check("two steps");
  history.add(StartReport{.step = 2, .steps = 100});
  for (int step = 3; step < 40; ++step) history.add(step_at(step));
  check("many steps");
}

TEST_CASE("equal reports give equal pages") {
  const Config config = parse_config(kValid, "a.yaml");
  RunHistory one, other;
  for (int step = 1; step < 2000; ++step) {
    one.add(step_at(step));
    if (step % 100 == 0) report_page(one, config, kStatus);
    other.add(parse_metrics_line(metrics_line(step_at(step))));
  }
  CHECK(report_page(one, config, kStatus) == report_page(other, config, kStatus));
}

TEST_CASE("markup in names is escaped") {
  Config config = parse_config(kValid, "a.yaml");
  config.run.name = "<script>alert('1')</script>&\"";
  config.data.path = "</pre><b>";
  RunHistory history;
  history.add(StartReport{.time = "<i>", .device = "<u>"});
  history.add(step_at(1));
  const std::string page = report_page(history, config, kStatus);
  CHECK(unbalanced_tag(page) == "");
  for (const char* bad : {"<script>alert", "</pre><b>", "<i>", "<u>"})
    CHECK(page.find(bad) == std::string::npos);
  CHECK(page.find("<h1>&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;</h1>") !=
        std::string::npos);
}

TEST_CASE("the page of a long run of a large model is of bounded size") {
  const Config config = parse_config(kValid, "a.yaml");
  RunHistory history;
  std::size_t size_before = 0;
  for (std::int64_t step = 10; step <= 100'000; step += 10) {
    history.add(step_at(step, 8, 16));
    if (step == 20'000) size_before = report_page(history, config, kStatus).size();
  }
  const std::size_t size = report_page(history, config, kStatus).size();
  CHECK(size < 1'000'000);
  CHECK(static_cast<double>(size) < 1.5 * static_cast<double>(size_before));
}

// The page's data for its script: the attribute `name` of the first element that has it.
nlohmann::json data_in(std::string html, const std::string& name, std::size_t number = 0) {
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= number; ++i)
    begin = html.find("data-" + name + "=\"", begin) + name.size() + 7;
  html = html.substr(begin, html.find('"', begin) - begin);
  for (std::size_t at; (at = html.find("&quot;")) != std::string::npos;) html.replace(at, 6, "\"");
  return nlohmann::json::parse(html);
}

// The load of a cell, as page.js decodes it.
double load_in(const nlohmann::json& map, int column, int row) {
  const auto digit = [](char c) {
    return std::string_view("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_")
        .find(c);
  };
  const std::string cells = map.at("cells");
  const std::size_t at = 2 * static_cast<std::size_t>(column * map.at("rows").get<int>() + row);
  const auto level = static_cast<double>(64 * digit(cells[at]) + digit(cells[at + 1]));
  return level == 0 ? 0 : std::exp2((level - 1793) / 256);
}

TEST_CASE("the map of expert load has each expert's share of its layer's rows") {
  LoadBin first, second;
  first.step.add(10);
  first.rows = {{0, 100, 100, 200}, {1, 1, 1, 97}};
  second.step.add(20);
  second.step.add(30);
  second.rows = {{100, 100, 100, 100}, {0, 0, 0, 0}};
  const nlohmann::json map = data_in(load_map({first, second}, 30), "map");
  CHECK(map.at("layers") == 2);
  CHECK(map.at("experts") == 4);
  CHECK(map.at("group") == 1);
  CHECK(map.at("rows") == 8);
  CHECK(map.at("edges") == nlohmann::json({0, 17.5, 30}));
  CHECK(map.at("steps") == nlohmann::json({{10, 10}, {20, 30}}));
  const double loads[] = {0, 1, 1, 2, 0.04, 0.04, 0.04, 3.88};
  for (int row = 0; row < 8; ++row) {
    CAPTURE(row);
    CHECK(load_in(map, 0, row) == doctest::Approx(loads[row]).epsilon(0.002));
    CHECK(load_in(map, 1, row) == (row < 4 ? 1 : 0));
  }
  CHECK(load_map({}, 10).empty());
}

TEST_CASE("the map of expert load names routers where layers have several, with their own sizes") {
  LoadBin bin;
  bin.step.add(1);
  bin.rows = {{5, 5, 5}, {4, 4, 4, 4}};
  const nlohmann::json plain = data_in(load_map({bin}, 1), "map");
  CHECK(plain.at("names") == nlohmann::json({"0", "1"}));
  CHECK(plain.at("sizes") == nlohmann::json({3, 4}));
  CHECK(plain.at("rows") == 8);
  const nlohmann::json named = data_in(load_map({bin}, 1, {"0.self_attn.gate", "0.moe"}), "map");
  CHECK(named.at("names") == nlohmann::json({"0.self_attn.gate", "0.moe"}));
}

TEST_CASE("with very many experts, adjacent ones share a row that shows the worst") {
  LoadBin bin;
  bin.step.add(1);
  bin.rows.assign(10, std::vector<std::int64_t>(400, 50));
  bin.rows[3][7] = 0;
  const std::string html = load_map({bin}, 1);
  CHECK(html.find("2 experts per row") != std::string::npos);
  const nlohmann::json map = data_in(html, "map");
  CHECK(map.at("rows") == 2000);
  CHECK(map.at("group") == 2);
  CHECK(load_in(map, 0, 603) == 0);
  CHECK(load_in(map, 0, 604) == doctest::Approx(1).epsilon(0.01));
}

TEST_CASE("a long run has hundreds of columns of expert load") {
  RunHistory history;
  for (std::int64_t step = 10; step <= 100'000; step += 10) history.add(step_at(step, 4, 8));
  CHECK(data_in(load_map(history.loads(), 1e5), "map").at("steps").size() > 250);
}

TEST_CASE("a chart's data has the numbers that are drawn") {
  Chart chart{.title = "A",
              .note = "",
              .unit = Unit::bytes,
              .is_log = true,
              .last_step = 20,
              .marks = {5},
              .changes = {{7, "a \"b\""}},
              .levels = {{4, "<top>"}}};
  chart.curves.push_back(
      {.name = "one", .color = "--series-1", .points = {{1, 2, 2, 2}, {3, 4, 3.5, 5}}});
  const std::string html = line_chart(chart);
  CHECK(html.find("&lt;top&gt;</span>") != std::string::npos);
  const nlohmann::json data = data_in(html, "chart");
  CHECK(data.at("x") == "step");
  CHECK(data.at("unit") == "bytes");
  CHECK(data.at("log") == 1);
  CHECK(data.at("stacked") == 0);
  CHECK(data.at("last") == 20);
  CHECK(data.at("curves")[0].at("name") == "one");
  CHECK(data.at("curves")[0].at("points") == nlohmann::json({{1, 2}, {3, 4, 3.5, 5}}));
  CHECK(data.at("marks") == nlohmann::json({5}));
  CHECK(data.at("changes") == nlohmann::json({{7, "a \"b\""}}));
}

TEST_CASE("the page says what the run does, validates by source, and names limits") {
  Config config = parse_config(kValid, "a.yaml");
  config.model.vocab_size = 256;
  config.data.path.clear();
  config.data.sources = {{.name = "web", .path = "w.h5", .weight = 3},
                         {.name = "code", .path = "c.h5", .weight = 1}};
  RunHistory history;
  history.add(StartReport{.steps = 4, .time = "now", .device = "cpu", .device_bytes = 8000});
  for (int step = 1; step < 4; ++step) history.add(step_at(step));
  ValidationReport validation{.step = 3, .steps = 4, .tokens = 10, .loss = 2, .bits_per_byte = 3};
  validation.sources = {{"web", 5, 2.5, 3.5}, {"code", 5, 1.5, 2.5}};
  history.add(validation);
  CHECK(ended_state(history) == RunState::stopped);
  const std::string page = report_page(history, config, kStatus);
  CHECK(page.find("data-state=\"running\" data-updated=\"2026-03-21T14:05:09Z\"") !=
        std::string::npos);
  CHECK(page.find("<p>web (75 %), code (25 %) · ") != std::string::npos);
  const nlohmann::json loss = data_in(page, "chart", 0), sources = data_in(page, "chart", 1),
                       memory = data_in(page, "chart", 3);
  CHECK(loss.at("levels") == nlohmann::json({{5.54518, "uniform guess"}}));
  REQUIRE(sources.at("curves").size() == 3);
  CHECK(sources.at("curves")[1].at("name") == "web");
  CHECK(sources.at("curves")[2].at("points") == nlohmann::json({{3, 2.5}}));
  CHECK(sources.at("levels")[0][0].get<double>() == doctest::Approx(5.54518 / 2 * 3));
  CHECK(memory.at("levels") == nlohmann::json({{8000, "device"}}));
  CHECK(page.find("the device has 7.81 KiB") != std::string::npos);
  StepReport last = step_at(4);
  last.steps = 4;
  history.add(last);
  CHECK(ended_state(history) == RunState::finished);
}
