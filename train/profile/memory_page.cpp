#include "train/profile/memory_page.h"

#include <fmt/format.h>

#include <cmath>

#include "core/system/file.h"
#include "core/system/format.h"
#include "train/report/chart.h"
#include "train/report/page_frame.h"

namespace smoe {
namespace {

std::string time_label(double ms) {
  return std::isnan(ms) ? "lives on" : ms < 0 ? "before" : fmt::format("{:.1f} ms", ms);
}

std::string owner_table(const std::string& title, const std::string& note,
                        const std::vector<OwnedBlocks>& owners, std::int64_t peak_bytes) {
  constexpr double kLeastShare = 0.01;
  std::string html = card_head(title, note, true) +
                     "<div class=\"table "
                     "named\"><table><tr><th>owner</th><th>category</th><th>size</th><th>share of "
                     "the peak</th><th>blocks</th><th>born</th><th>freed</th></tr>";
  std::int64_t small = 0;
  for (const OwnedBlocks& o : owners) {
    const double share = static_cast<double>(o.bytes) / static_cast<double>(peak_bytes);
    if (share < kLeastShare) {
      small += o.bytes;
      continue;
    }
    html += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.1f} %</td><td>{}</td><td>{}</td><td>{}</td>"
        "</tr>",
        escaped(o.owner), name_of(o.category), format_bytes(o.bytes), 100 * share, o.count,
        time_label(o.born_ms), time_label(o.died_ms));
  }
  if (small > 0)
    html += fmt::format(
        "<tr><td>smaller ones</td><td></td><td>{}</td><td>{:.1f} %</td><td></td>"
        "<td></td><td></td></tr>",
        format_bytes(small), 100 * static_cast<double>(small) / static_cast<double>(peak_bytes));
  return html + "</table></div></figure>";
}

}  // namespace

std::string memory_cards(const MemoryTimeline& timeline) {
  Chart chart{.title = "Memory over time",
              .note = fmt::format("of tensors, by category; the peak of {} is at {:.1f} ms",
                                  format_bytes(timeline.peak_bytes), timeline.peak_ms),
              .unit = Unit::bytes,
              .last_step = std::max(timeline.duration_ms, 1e-3),
              .x_name = "ms"};
  for (int c = 0; c < kNumCategories; ++c) {
    Curve curve{.name = name_of(static_cast<Category>(c)),
                .color = fmt::format("--series-{}", c + 1),
                .points = {}};
    for (const MemoryTimeline::Point& point : timeline.points)
      curve.points.push_back({.step = point.ms, .value = static_cast<double>(point.bytes[c])});
    chart.curves.push_back(std::move(curve));
  }
  std::string html = stacked_chart(chart);
  html +=
      owner_table("Owners at the peak", "op, parameter, part of the step and layer that allocated",
                  timeline.owners, timeline.peak_bytes);
  if (!timeline.kept.empty() && timeline.kept.front().bytes * 100 >= timeline.peak_bytes)
    html += owner_table("Kept at the end",
                        "activations and workspace that were not freed; those of at least 1 %",
                        timeline.kept, timeline.peak_bytes);
  return html;
}

std::string out_of_memory_page(const MemoryTimeline& timeline, const std::string& message) {
  return page_head("Out of memory") + "<p>" + escaped(message) +
         "</p></header>\n<h2>The last step</h2><div class=\"charts\">" + memory_cards(timeline) +
         "</div>" + page_end();
}

std::string write_out_of_memory_page(const OutOfMemory& error, Device device,
                                     const std::string& path) {
  const MemoryLog log = memory_log(device);
  const MemoryTimeline timeline =
      memory_timeline(log, last_step_begin(log, error.time_ns), error.time_ns);
  write_file_atomically(path, out_of_memory_page(timeline, error.what()));
  return "out of memory: the last step's timeline is in " + path;
}

}  // namespace smoe
