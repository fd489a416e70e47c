// Charts as HTML: SVG for the shapes, which stretch with the page, and text beside it, which does
// not. Colours are the page's (page_style.h): a curve names one of its variables.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "train/report/axis.h"

namespace smoe {

/// `text` with what HTML would take for markup written so that it is shown.
std::string escaped(std::string_view text);

/// One place of a curve; low and high are the band around it.
struct Point {
  double step = 0, value = 0, low = 0, high = 0;
};

struct Curve {
  std::string name;
  std::string colour;  ///< "--series-1"
  std::vector<Point> points;
  bool has_dots = false;  ///< few points that stand for themselves
};

/// Curves over the steps of a run.
struct Chart {
  std::string title;
  std::string note;  ///< what exactly is shown, one line
  Unit unit = Unit::number;
  bool is_log = false;  ///< where values are positive; otherwise the axis is linear all the same
  bool is_from_zero = false;
  double last_step = 1;               ///< where the x axis ends
  std::vector<std::int64_t> marks{};  ///< steps with a dashed line
  std::vector<Curve> curves{};
};

/// A line with its band for each curve.
std::string line_chart(const Chart& chart);
/// The curves on top of one another, the first at the bottom; they share their steps.
std::string stacked_chart(const Chart& chart);

/// The begin of a card with its heading; the caller ends it with "</figure>".
std::string card_head(const std::string& title, const std::string& note, bool is_wide = false);
/// The labels of a plot's x axis.
std::string step_labels(const Axis& x);

}  // namespace smoe
