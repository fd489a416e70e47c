#include "train/report/chart_data.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>

namespace smoe {
namespace {

std::string json_text(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// "[a,b,...]" of item(element) for all elements.
template <class Elements, class Item>
std::string json_list(const Elements& elements, Item item) {
  std::string list = "[";
  for (const auto& element : elements) list += (list.size() > 1 ? "," : "") + item(element);
  return list + "]";
}

std::string curve_data(const Curve& curve) {
  fmt::memory_buffer points;
  const auto add = [&](const char* separator, double value) {
    fmt::format_to(std::back_inserter(points), "{}{:.6g}", separator, value);
  };
  for (const Point& point : curve.points) {
    add(points.size() == 0 ? "[" : ",[", point.step);
    add(",", point.value);
    if (point.high > point.low) {
      add(",", point.low);
      add(",", point.high);
    }
    points.push_back(']');
  }
  return fmt::format(R"({{"name":{},"color":{},"dots":{:d},"points":[{}]}})", json_text(curve.name),
                     json_text(curve.color), curve.has_dots, fmt::to_string(points));
}

}  // namespace

std::string chart_data(const Chart& chart, bool is_stacked) {
  return fmt::format(
      R"({{"x":{},"unit":"{}","log":{:d},"zero":{:d},"stacked":{:d},"last":{:.6g},"curves":{},)"
      R"("marks":{},"changes":{},"levels":{}}})",
      json_text(chart.x_name), chart.unit == Unit::bytes ? "bytes" : "number", chart.is_log,
      chart.is_from_zero || is_stacked, is_stacked, chart.last_step,
      json_list(chart.curves, curve_data),
      json_list(chart.marks, [](std::int64_t step) { return std::to_string(step); }),
      json_list(chart.changes,
                [](const Mark& mark) {
                  return fmt::format("[{},{}]", mark.step, json_text(mark.label));
                }),
      json_list(chart.levels, [](const Level& level) {
        return fmt::format("[{:.6g},{}]", level.value, json_text(level.label));
      }));
}

}  // namespace smoe
