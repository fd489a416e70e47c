#include "train/compare/compare_page.h"

#include <fmt/format.h>

#include <algorithm>

#include "train/report/chart.h"
#include "train/report/page_frame.h"

namespace smoe {
namespace {

constexpr std::size_t kNumColors = 5;

std::string color_of(std::size_t run) {
  return fmt::format("--series-{}", run % kNumColors + 1);
}

template <class Bin>
Curve curve_of_run(const ComparedRun& run, std::size_t index, const std::vector<Bin>& bins,
                   Spread Bin::*value) {
  Curve curve{.name = run.label, .color = color_of(index), .points = {}};
  for (const Bin& bin : bins)
    if (const Spread& spread = bin.*value; !spread.empty())
      curve.points.push_back({.step = bin.step.mean(),
                              .value = spread.mean(),
                              .low = spread.mean(),
                              .high = spread.mean()});
  return curve;
}

template <class Bins, class Value>
std::string chart_of_runs(const std::vector<ComparedRun>& runs, const std::string& title,
                          const std::string& note, bool is_from_zero, Bins bins_of, Value value) {
  Chart chart{.title = title, .note = note, .is_from_zero = is_from_zero};
  for (std::size_t r = 0; r < runs.size(); ++r) {
    Curve curve = curve_of_run(runs[r], r, bins_of(runs[r]), value);
    curve.has_dots = curve.points.size() <= 60 && title == "Validation loss";
    for (const Point& point : curve.points) chart.last_step = std::max(chart.last_step, point.step);
    if (!curve.points.empty()) chart.curves.push_back(std::move(curve));
  }
  return line_chart(chart);
}

std::string table_card(const std::string& title, const std::vector<ComparedRun>& runs,
                       const std::vector<std::pair<std::string, std::vector<std::string>>>& rows) {
  std::string html = card_head(title, "", true) + "<div class=\"table\"><table><tr><th></th>";
  for (const ComparedRun& run : runs) html += "<th>" + escaped(run.label) + "</th>";
  html += "</tr>";
  for (const auto& [name, values] : rows) {
    html += "<tr><td>" + escaped(name) + "</td>";
    for (const std::string& value : values) html += "<td>" + escaped(value) + "</td>";
    html += "</tr>";
  }
  return html + "</table></div></figure>";
}

}  // namespace

std::string compare_page(const std::vector<ComparedRun>& runs) {
  const auto steps = [](const ComparedRun& run) -> const auto& {
    return run.history.steps();
  };
  const auto validations = [](const ComparedRun& run) -> const auto& {
    return run.history.validations();
  };
  std::vector<std::pair<std::string, std::vector<std::string>>> results, keys;
  for (const ResultRow& row : results_of(runs)) results.emplace_back(row.name, row.values);
  for (const Difference& d : differences_of(runs)) keys.emplace_back(d.key, d.values);
  std::string names;
  for (const ComparedRun& run : runs) names += (names.empty() ? "" : ", ") + run.label;
  std::string html = page_head("Comparison of runs") + "<p>" + escaped(names) + "</p></header>\n";
  html += "<h2>Results</h2><div class=\"charts\">" + table_card("Results", runs, results) +
          (keys.empty() ? "" : table_card("Keys that differ", runs, keys)) + "</div>\n";
  html += "<h2>Curves</h2><div class=\"charts\">";
  html += chart_of_runs(runs, "Training loss", "cross-entropy, nats per token", false, steps,
                        &StepBin::loss);
  html += chart_of_runs(runs, "Validation loss", "cross-entropy, nats per token", false,
                        validations, &ValidationBin::loss);
  html +=
      chart_of_runs(runs, "Throughput", "tokens per second", true, steps, &StepBin::tokens_per_s);
  html +=
      chart_of_runs(runs, "Gradient norm", "before clipping", false, steps, &StepBin::grad_norm);
  html += chart_of_runs(runs, "Learning rate", "", true, steps, &StepBin::lr);
  html += chart_of_runs(runs, "Imbalance", "largest over mean load in the worst layer", false,
                        steps, &StepBin::imbalance);
  return html + "</div>\n" + page_end();
}

}  // namespace smoe
