#include "train/report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "train/report/chart_data.h"

namespace smoe {
namespace {

// The size of a plot's SVG in its own coordinates.
constexpr double kPlotWidth = 1000, kPlotHeight = 300;
constexpr int kStepTicks = 5, kValueTicks = 5;

/// Appends formatted text.
class Html {
 public:
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
  }
  void add_text(std::string_view text) { text_.append(text.data(), text.data() + text.size()); }
  std::string take() const { return fmt::to_string(text_); }

 private:
  fmt::memory_buffer text_;
};

/// Maps values to SVG coordinates.
struct Plot {
  Axis x, y;

  double left(double step) const { return kPlotWidth * x.position_of(step); }
  double top(double value) const { return kPlotHeight * (1 - y.position_of(value)); }
};

// Whether a level is near enough to the curves to extend the axis to it.
bool is_near(const Level& level, double high) {
  return level.value <= 2.5 * high;
}

void add_levels(Html& html, const Chart& chart, const Plot& plot) {
  for (const Level& level : chart.levels)
    if (level.value >= plot.y.low && level.value <= plot.y.high)
      html.add("<path class=\"level\" d=\"M0 {:.1f}h{}\"/>", plot.top(level.value), kPlotWidth);
}

void add_level_labels(Html& html, const Chart& chart, const Plot& plot) {
  for (const Level& level : chart.levels)
    if (level.value >= plot.y.low && level.value <= plot.y.high)
      html.add("<span class=\"level\" style=\"top:{:.2f}%\">{}</span>",
               100 * (1 - plot.y.position_of(level.value)), escaped(level.label));
}

Axis value_axis(const Chart& chart, double low, double high) {
  if (chart.is_log && low > 0) return log_axis_around(low, high);
  return axis_around(chart.is_from_zero ? std::min(low, 0.0) : low, high, kValueTicks, chart.unit);
}

void add_legend(Html& html, const Chart& chart) {
  if (chart.curves.size() < 2) return;
  html.add_text("<div class=\"legend\">");
  for (const Curve& curve : chart.curves)
    html.add("<span><i style=\"background:var({})\"></i>{}</span>", curve.color,
             escaped(curve.name));
  html.add_text("</div>");
}

// The card of a chart around the shapes that `add_shapes(html, plot)` draws.
template <class AddShapes>
std::string card(const Chart& chart, const Plot& plot, bool is_stacked, AddShapes&& add_shapes) {
  Html html;
  html.add_text(card_head(chart.title, chart.note));
  add_legend(html, chart);
  html.add("<div class=\"plot\" data-chart=\"{}\">", escaped(chart_data(chart, is_stacked)));
  html.add("<svg viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
           kPlotWidth, kPlotHeight);
  for (const Tick& tick : plot.y.ticks)
    html.add("<path class=\"grid\" d=\"M0 {:.1f}h{}\"/>", kPlotHeight * (1 - tick.at), kPlotWidth);
  for (const std::int64_t step : chart.marks)
    html.add("<path class=\"mark\" d=\"M{:.1f} 0v{}\"/>", plot.left(static_cast<double>(step)),
             kPlotHeight);
  for (const auto& [step, label] : chart.changes)
    html.add("<path class=\"mark change\" d=\"M{:.1f} 0v{}\"><title>{}</title></path>",
             plot.left(static_cast<double>(step)), kPlotHeight, escaped(label));
  add_shapes(html, plot);
  add_levels(html, chart, plot);
  html.add_text("</svg>");
  for (const Tick& tick : plot.y.ticks)
    html.add("<span class=\"y\" style=\"top:{:.2f}%\">{}</span>", 100 * (1 - tick.at), tick.label);
  html.add_text(step_labels(plot.x));
  add_level_labels(html, chart, plot);
  html.add_text("</div></figure>");
  return html.take();
}

// "M x y L x y ..." through `points` at the values get(point); command 'L' continues the path.
template <class Points, class Get>
void add_line(Html& html, const Plot& plot, const Points& points, Get get, char command = 'M') {
  for (const Point& point : points) {
    html.add("{}{:.1f} {:.1f}", command, plot.left(point.step), plot.top(get(point)));
    command = 'L';
  }
}

std::vector<Point> reversed(const std::vector<Point>& points) {
  return {points.rbegin(), points.rend()};
}

void add_curve(Html& html, const Plot& plot, const Curve& curve) {
  const bool has_band = std::any_of(curve.points.begin(), curve.points.end(),
                                    [](const Point& p) { return p.high > p.low; });
  if (has_band) {
    html.add("<path class=\"band\" style=\"fill:var({})\" d=\"", curve.color);
    add_line(html, plot, curve.points, [](const Point& p) { return p.high; });
    add_line(
        html, plot, reversed(curve.points), [](const Point& p) { return p.low; }, 'L');
    html.add_text("Z\"/>");
  }
  html.add("<path class=\"line\" style=\"stroke:var({})\" d=\"", curve.color);
  add_line(html, plot, curve.points, [](const Point& p) { return p.value; });
  html.add_text("\"/>");
  if (!curve.has_dots && curve.points.size() > 1) return;
  // A line of length 0 with round caps is a dot that stays round when the plot is stretched.
  html.add("<path class=\"dots\" style=\"stroke:var({})\" d=\"", curve.color);
  for (const Point& p : curve.points)
    html.add("M{:.1f} {:.1f}h0", plot.left(p.step), plot.top(p.value));
  html.add_text("\"/>");
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string card_head(const std::string& title, const std::string& note, bool is_wide) {
  return fmt::format(
      "<figure class=\"card{}\"><figcaption><b>{}</b> <small>{}</small></figcaption>",
      is_wide ? " wide" : "", escaped(title), escaped(note));
}

std::string step_labels(const Axis& x) {
  std::string html;
  for (const Tick& tick : x.ticks)
    html += fmt::format("<span class=\"x\" style=\"left:{:.2f}%\">{}</span>", 100 * tick.at,
                        tick.label);
  return html;
}

std::string line_chart(const Chart& chart) {
  double low = INFINITY, high = -INFINITY;
  for (const Curve& curve : chart.curves) {
    for (const Point& p : curve.points) {
      low = std::min(low, p.low);
      high = std::max(high, p.high);
    }
  }
  if (low > high) return "";
  for (const Level& level : chart.levels)
    if (is_near(level, high)) high = std::max(high, level.value);
  const Plot plot{axis_from(0, chart.last_step, kStepTicks, true), value_axis(chart, low, high)};
  return card(chart, plot, false, [&](Html& html, const Plot& p) {
    for (const Curve& curve : chart.curves) add_curve(html, p, curve);
  });
}

std::string stacked_chart(const Chart& chart) {
  if (chart.curves.empty() || chart.curves[0].points.empty()) return "";
  const std::size_t num_points = chart.curves[0].points.size();
  // edges[i] is the upper edge of curve i - 1, which is the lower edge of curve i.
  std::vector<std::vector<Point>> edges{chart.curves[0].points};
  for (Point& p : edges[0]) p.value = 0;
  double high = 0;
  for (const Curve& curve : chart.curves) {
    std::vector<Point> edge = edges.back();
    for (std::size_t i = 0; i < num_points; ++i) {
      edge[i].value += curve.points[i].value;
      high = std::max(high, edge[i].value);
    }
    edges.push_back(std::move(edge));
  }
  for (const Level& level : chart.levels)
    if (is_near(level, high)) high = std::max(high, level.value);
  const Plot plot{axis_from(0, chart.last_step, kStepTicks, true),
                  axis_around(0, high, kValueTicks, chart.unit)};
  return card(chart, plot, true, [&](Html& html, const Plot& p) {
    const auto value = [](const Point& point) { return point.value; };
    for (std::size_t c = 0; c < chart.curves.size(); ++c) {
      html.add("<path class=\"area\" style=\"fill:var({})\" d=\"", chart.curves[c].color);
      add_line(html, p, edges[c + 1], value);
      add_line(html, p, reversed(edges[c]), value, 'L');
      html.add_text("Z\"/>");
    }
  });
}

}  // namespace smoe
