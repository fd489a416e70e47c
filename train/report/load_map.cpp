#include "train/report/load_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>

#include "train/report/chart.h"

namespace smoe {
namespace {

using MapJson = nlohmann::ordered_json;

constexpr std::size_t kMaxRows = 2048;      // over all layers, unless there are more layers
constexpr std::size_t kMaxCells = 200'000;  // limits the size of the page

// The upper bound of each color from 1, relative to the even share. Color 0 is a load of 0.
constexpr std::array kBounds = {0.25, 0.4, 0.6, 0.85, 1.18, 1.67, 2.5, 4.0};
constexpr int kNumColors = kBounds.size() + 2;

// An expert's load relative to its even share of the layer's rows, on a logarithmic scale: 0 for no
// rows, otherwise 1 + 256 log2(load) + 1792, from 1/128 to 512.
constexpr int kMaxLevel = 4095, kEvenLevel = 1793, kLevelsPerOctave = 256;
int level_of(double load) {
  if (load == 0) return 0;
  return static_cast<int>(std::clamp(std::round(kEvenLevel + kLevelsPerOctave * std::log2(load)),
                                     1.0, static_cast<double>(kMaxLevel)));
}

// Whether level a is farther from an even share than level b; level 0 is the farthest.
bool is_farther(int a, int b) {
  const auto distance = [](int level) {
    return level == 0 ? kMaxLevel : std::abs(level - kEvenLevel);
  };
  return distance(a) > distance(b);
}

// The levels of a layer's experts, one per `group` adjacent experts.
std::vector<int> levels_of(const std::vector<std::int64_t>& rows, std::size_t group) {
  std::int64_t total = 0;
  for (const std::int64_t count : rows) total += count;
  const double even = static_cast<double>(total) / static_cast<double>(rows.size());
  std::vector<int> levels((rows.size() + group - 1) / group, kEvenLevel);
  for (std::size_t e = 0; e < rows.size(); ++e) {
    const int level = total == 0 ? 0 : level_of(static_cast<double>(rows[e]) / even);
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

// The left edge of each column, a step halfway between the centers of adjacent ones, and the right
// edge of the last.
MapJson edges_of(const std::vector<LoadBin>& columns) {
  MapJson edges{0};
  for (std::size_t i = 1; i < columns.size(); ++i)
    edges.push_back((columns[i - 1].step.mean() + columns[i].step.mean()) / 2);
  edges.push_back(columns.back().step.max);
  return edges;
}

MapJson steps_of(const std::vector<LoadBin>& columns) {
  MapJson steps = MapJson::array();
  for (const LoadBin& column : columns)
    steps.push_back({std::llround(column.step.min), std::llround(column.step.max)});
  return steps;
}

// Two digits of base 64 per cell, column by column from the top.
std::string cells_of(const std::vector<LoadBin>& columns, std::size_t group,
                     std::size_t rows_per_layer) {
  constexpr std::string_view kDigits =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
  std::string cells;
  for (const LoadBin& column : columns)
    for (const auto& rows : column.rows) {
      std::vector<int> levels = levels_of(rows, group);
      levels.resize(rows_per_layer, kEvenLevel);  // a layer with fewer experts
      for (const int level : levels) {
        cells += kDigits[level / 64];
        cells += kDigits[level % 64];
      }
    }
  return cells;
}

// Without names the numbers of the layers.
MapJson names_of(const std::vector<std::string>& names, std::size_t count) {
  MapJson list = MapJson::array();
  for (std::size_t i = 0; i < count; ++i)
    list.push_back(i < names.size() ? names[i] : std::to_string(i));
  return list;
}

MapJson sizes_of(const std::vector<std::vector<std::int64_t>>& layers) {
  MapJson list = MapJson::array();
  for (const auto& layer : layers) list.push_back(layer.size());
  return list;
}

std::string swatches(int first, int last) {
  std::string html;
  for (int color = first; color <= last; ++color)
    html += fmt::format("<i style=\"background:var(--load-{})\"></i>", color);
  return html;
}

std::string legend() {
  return "<div class=\"legend\"><span>" + swatches(0, 0) +
         "no tokens</span><span class=\"scale\">¼" + swatches(1, kNumColors - 1) +
         "4 × the even share</span></div>";
}

}  // namespace

std::string load_map(const std::vector<LoadBin>& loads, double last_step,
                     const std::vector<std::string>& names) {
  if (loads.empty()) return "";
  const auto& layers = loads[0].rows;
  std::size_t num_experts = 0;
  for (const auto& layer : layers) num_experts = std::max(num_experts, layer.size());
  if (num_experts == 0) return "";
  const std::size_t group =
      std::max<std::size_t>(1, (layers.size() * num_experts + kMaxRows - 1) / kMaxRows);
  const std::size_t rows_per_layer = (num_experts + group - 1) / group;
  const std::size_t num_rows = layers.size() * rows_per_layer;
  const std::size_t max_columns = std::max<std::size_t>(10, kMaxCells / num_rows);
  const auto columns = merge_columns(loads, (loads.size() + max_columns - 1) / max_columns);

  const int row_pixels = num_rows <= 48 ? 10 : num_rows <= 160 ? 5 : num_rows <= 500 ? 3 : 1;
  const std::string note =
      fmt::format("experts of each layer from top to bottom, relative to an even share{}",
                  group == 1 ? "" : fmt::format("; {} experts per row, showing the worst", group));
  const MapJson data = {{"last", last_step},
                        {"layers", layers.size()},
                        {"names", names_of(names, layers.size())},
                        {"experts", num_experts},
                        {"sizes", sizes_of(layers)},
                        {"group", group},
                        {"rows", num_rows},
                        {"bounds", kBounds},
                        {"edges", edges_of(columns)},
                        {"steps", steps_of(columns)},
                        {"cells", cells_of(columns, group, rows_per_layer)}};
  std::string html = card_head("Expert load by layer", note, true) + legend();
  html += fmt::format(
      "<div class=\"plot\" style=\"flex-basis:{}px\" data-map=\"{}\"><canvas></canvas>"
      "<svg class=\"loads\" viewBox=\"0 0 1000 {}\" preserveAspectRatio=\"none\" "
      "aria-hidden=\"true\">",
      row_pixels * num_rows, escaped(data.dump(-1, ' ', false, MapJson::error_handler_t::replace)),
      layers.size());
  for (std::size_t l = 1; l < layers.size(); ++l)
    html += fmt::format("<path class=\"between\" d=\"M0 {}h1000\"/>", l);
  return html + "</svg></div></figure>";
}

}  // namespace smoe
