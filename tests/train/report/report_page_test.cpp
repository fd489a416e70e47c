#include "train/report/report_page.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "tests/train/config/valid_config.h"
#include "train/report/chart.h"
#include "train/report/load_map.h"
#include "train/report/metrics_line.h"

using namespace smoe;

namespace {

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
    const std::string page = report_page(history, config);
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
    if (step % 100 == 0) report_page(one, config);
    other.add(parse_metrics_line(metrics_line(step_at(step))));
  }
  CHECK(report_page(one, config) == report_page(other, config));
}

TEST_CASE("markup in names is escaped") {
  Config config = parse_config(kValid, "a.yaml");
  config.run.name = "<script>alert('1')</script>&\"";
  config.data.path = "</pre><b>";
  RunHistory history;
  history.add(StartReport{.time = "<i>", .device = "<u>"});
  history.add(step_at(1));
  const std::string page = report_page(history, config);
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
    if (step == 20'000) size_before = report_page(history, config).size();
  }
  const std::size_t size = report_page(history, config).size();
  CHECK(size < 1'000'000);
  CHECK(static_cast<double>(size) < 1.5 * static_cast<double>(size_before));
}

TEST_CASE("the map of expert load shows how far from balance each expert is") {
  LoadBin bin;
  bin.step.add(10);
  bin.rows = {{0, 100, 100, 200}, {1, 1, 1, 97}};
  const std::string map = load_map({bin}, 10);
  const auto path = [](int level, const std::string& d) {
    return "<path style=\"stroke:var(--load-" + std::to_string(level) + ")\" d=\"" + d + "\"/>";
  };
  CHECK(map.find("viewBox=\"0 0 1000 8\"") != std::string::npos);
  CHECK(map.find(path(0, "M0 0.5h1000")) != std::string::npos);
  CHECK(map.find(path(5, "M0 1.5h1000M0 2.5h1000")) != std::string::npos);
  CHECK(map.find(path(7, "M0 3.5h1000")) != std::string::npos);
  CHECK(map.find(path(8, "M0 7.5h1000")) != std::string::npos);
  CHECK(map.find(path(1, "M0 4.5h1000M0 5.5h1000M0 6.5h1000")) != std::string::npos);
  CHECK(load_map({}, 10).empty());
}

TEST_CASE("with very many experts, adjacent ones share a row that shows the worst") {
  LoadBin bin;
  bin.step.add(1);
  bin.rows.assign(10, std::vector<std::int64_t>(120, 50));
  bin.rows[3][7] = 0;
  const std::string map = load_map({bin}, 1);
  CHECK(map.find("2 experts per row") != std::string::npos);
  CHECK(map.find("viewBox=\"0 0 1000 600\"") != std::string::npos);
  CHECK(map.find("--load-0)\" d=\"M0 183.5h1000\"") != std::string::npos);
}
