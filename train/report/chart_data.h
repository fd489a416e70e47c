// The contents of a chart for the page's script (page.js), which shows values at the pointer and
// redraws the chart when the reader zooms, or chooses another x axis or a logarithmic y axis.
#pragma once
#include <string>

#include "train/report/chart.h"

namespace smoe {

/// One JSON object:
///   {"x": x_name, "unit": "number" | "bytes", "log", "zero", "stacked": 0 | 1, "last": last_step,
///    "curves": [{"name", "color", "dots": 0 | 1, "points": [[step, value, low, high], ...]}, ...],
///    "marks": [step, ...], "changes": [[step, label], ...], "levels": [[value, label], ...]}
/// A point without a band has no low and high. Numbers have six digits.
std::string chart_data(const Chart& chart, bool is_stacked);

}  // namespace smoe
