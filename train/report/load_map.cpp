#include "train/report/load_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>

#include "train/report/chart.h"

namespace smoe {
namespace {

constexpr int kMapWidth = 1000;           // of the plot's SVG; its height is the number of rows
constexpr std::size_t kMaxRows = 600;     // over all layers, unless there are more layers
constexpr std::size_t kMaxCells = 20000;  // limits the size of the page

// The upper bound of each level from 1, relative to the balanced load. Level 0 is a load of 0.
constexpr std::array kBounds = {0.25, 0.4, 0.6, 0.85, 1.18, 1.67, 2.5, 4.0};
constexpr int kNumLevels = kBounds.size() + 2;
int level_of(double load) {
  if (load == 0) return 0;
  return 1 +
         static_cast<int>(std::upper_bound(kBounds.begin(), kBounds.end(), load) - kBounds.begin());
}

// Whether level a is farther from balance than level b; level 0 is the farthest.
bool is_farther(int a, int b) {
  constexpr int kBalance = kNumLevels / 2;
  const auto distance = [](int level) { return level == 0 ? 99 : std::abs(level - kBalance); };
  return distance(a) > distance(b);
}

// The levels of a layer's experts, one per `group` adjacent experts.
std::vector<int> levels_of(const std::vector<std::int64_t>& rows, std::size_t group) {
  std::int64_t total = 0;
  for (const std::int64_t count : rows) total += count;
  const double balanced = static_cast<double>(total) / static_cast<double>(rows.size());
  std::vector<int> levels((rows.size() + group - 1) / group, kNumLevels / 2);
  for (std::size_t e = 0; e < rows.size(); ++e) {
    const int level = total == 0 ? 0 : level_of(static_cast<double>(rows[e]) / balanced);
    int& shown = levels[e / group];
    if (is_farther(level, shown)) shown = level;
  }
  return levels;
}

// Merges every `group` adjacent columns.
std::vector<LoadBin> merge_columns(const std::vector<LoadBin>& loads, std::size_t group) {
  std::vector<LoadBin> out;
  for (std::size_t i = 0; i < loads.size(); ++i)
    i % group == 0 ? out.push_back(loads[i]) : out.back().merge(loads[i]);
  return out;
}

// The left edge of each column, halfway between the centers of adjacent ones, and the right edge of
// the last.
std::vector<int> column_edges(const std::vector<LoadBin>& columns, const Axis& x) {
  std::vector<int> edges{0};
  for (std::size_t i = 1; i < columns.size(); ++i) {
    const double middle = (columns[i - 1].step.mean() + columns[i].step.mean()) / 2;
    edges.push_back(static_cast<int>(std::lround(kMapWidth * x.position_of(middle))));
  }
  edges.push_back(
      static_cast<int>(std::lround(kMapWidth * x.position_of(columns.back().step.max))));
  return edges;
}

// One path per level: horizontal strokes of height 1, adjacent cells of the same level joined.
std::array<std::string, kNumLevels> paths_of(const std::vector<LoadBin>& columns,
                                             const std::vector<int>& edges, std::size_t group) {
  std::array<std::string, kNumLevels> paths;
  std::vector<std::vector<int>> cells;  // [column][row]
  for (const LoadBin& column : columns) {
    cells.emplace_back();
    for (const auto& rows : column.rows)
      for (const int level : levels_of(rows, group)) cells.back().push_back(level);
  }
  for (std::size_t row = 0; row < cells[0].size(); ++row) {
    for (std::size_t begin = 0, end; begin < cells.size(); begin = end) {
      const int level = cells[begin][row];
      for (end = begin + 1; end < cells.size() && cells[end][row] == level;) ++end;
      fmt::format_to(std::back_inserter(paths[level]), "M{} {}.5h{}", edges[begin], row,
                     edges[end] - edges[begin]);
    }
  }
  return paths;
}

std::string swatches(int first, int last) {
  std::string html;
  for (int level = first; level <= last; ++level)
    html += fmt::format("<i style=\"background:var(--load-{})\"></i>", level);
  return html;
}

std::string legend() {
  return "<div class=\"legend\"><span>" + swatches(0, 0) +
         "no tokens</span><span class=\"scale\">¼" + swatches(1, kNumLevels - 1) +
         "4 × the balanced load</span></div>";
}

// Labels as many layers as fit.
std::string layer_labels(std::size_t num_layers, double pixels_per_layer) {
  std::string html;
  const auto every = static_cast<std::size_t>(std::ceil(16 / pixels_per_layer));
  for (std::size_t l = 0; l < num_layers; l += every)
    html += fmt::format("<span class=\"y\" style=\"top:{:.2f}%\">{}</span>",
                        100 * (static_cast<double>(l) + 0.5) / static_cast<double>(num_layers), l);
  return html;
}

}  // namespace

std::string load_map(const std::vector<LoadBin>& loads, double last_step) {
  if (loads.empty()) return "";
  const auto& layers = loads[0].rows;
  std::size_t num_experts = 0;
  for (const auto& layer : layers) num_experts = std::max(num_experts, layer.size());
  if (num_experts == 0) return "";
  const std::size_t group = std::max<std::size_t>(1, layers.size() * num_experts / kMaxRows);
  const std::size_t rows_per_layer = (num_experts + group - 1) / group;
  const std::size_t num_rows = layers.size() * rows_per_layer;
  const std::size_t max_columns = std::max<std::size_t>(10, kMaxCells / num_rows);
  const auto columns = merge_columns(loads, (loads.size() + max_columns - 1) / max_columns);

  const Axis x = axis_from(0, last_step, 5, true);
  const auto paths = paths_of(columns, column_edges(columns, x), group);
  const double row_pixels = num_rows <= 48 ? 10 : num_rows <= 160 ? 5 : num_rows <= 300 ? 3 : 2;
  const double height = row_pixels * static_cast<double>(num_rows);
  const std::string note =
      fmt::format("experts of each layer from top to bottom, relative to the balanced load{}",
                  group == 1 ? "" : fmt::format("; {} experts per row, showing the worst", group));
  std::string html = card_head("Expert load by layer", note, true) + legend();
  html += fmt::format(
      "<div class=\"plot\" style=\"flex-basis:{:.0f}px\"><svg class=\"loads\" viewBox=\"0 0 {} "
      "{}\" "
      "preserveAspectRatio=\"none\" aria-hidden=\"true\">",
      height, kMapWidth, num_rows);
  for (int level = 0; level < kNumLevels; ++level)
    if (!paths[level].empty())
      html += fmt::format("<path style=\"stroke:var(--load-{})\" d=\"{}\"/>", level, paths[level]);
  for (std::size_t l = 1; l < layers.size(); ++l)
    html += fmt::format("<path class=\"between\" d=\"M0 {}h{}\"/>", l * rows_per_layer, kMapWidth);
  html += "</svg>" + layer_labels(layers.size(), row_pixels * static_cast<double>(rows_per_layer));
  return html + step_labels(x) + "</div></figure>";
}

}  // namespace smoe
