// Charts as HTML: SVG for the shapes, which stretch with the page, and separate text, which does
// not. A curve's color is the name of a variable of the page's style sheet (page.css).
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "train/report/axis.h"

namespace smoe {

/// `text` with the characters of HTML markup escaped.
std::string escaped(std::string_view text);

/// One point of a curve; low and high are the band around it.
struct Point {
  double step = 0, value = 0, low = 0, high = 0;
};

struct Curve {
  std::string name;
  std::string color;  ///< "--series-1"
  std::vector<Point> points;
  bool has_dots = false;  ///< mark each point
};

/// A step with a label, which the pointer shows.
struct Mark {
  std::int64_t step = 0;
  std::string label;
};

/// A value with a label, drawn as a horizontal line.
struct Level {
  double value = 0;
  std::string label;
};

/// Curves over the steps of a run. The page's script redraws a chart for a part of the x axis.
struct Chart {
  std::string title;
  std::string note;  ///< one line that defines the values
  Unit unit = Unit::number;
  bool is_log = false;  ///< if all values are positive; otherwise the axis is linear
  bool is_from_zero = false;
  double last_step = 1;               ///< end of the x axis
  std::string x_name = "step";        ///< what the x axis counts
  std::vector<std::int64_t> marks{};  ///< steps with a dashed line
  std::vector<Mark> changes{};        ///< steps with a dashed line and a label
  std::vector<Level> levels{};        ///< shown if they are not far above all curves
  std::vector<Curve> curves{};
};

/// Each curve as a line with its band.
std::string line_chart(const Chart& chart);
/// The curves stacked, the first at the bottom; all have points at the same steps.
std::string stacked_chart(const Chart& chart);

/// The opening of a card with its heading; the caller closes it with "</figure>".
std::string card_head(const std::string& title, const std::string& note, bool is_wide = false);
/// The labels of a plot's x axis.
std::string step_labels(const Axis& x);

}  // namespace smoe
