// Converts a report to a line of metrics.jsonl and back; metrics_file.h describes the format.
#pragma once
#include <string>
#include <string_view>

#include "train/report/report.h"

namespace smoe {

/// A report as one line of JSON, without its newline.
std::string metrics_line(const Report& report);

/// Parses a line that metrics_line wrote; missing keys keep their defaults.
/// Throws: UsageError, without the line's position, for any other line.
Report parse_metrics_line(std::string_view line);

}  // namespace smoe
