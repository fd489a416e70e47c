// One report as one line of metrics.jsonl, and back; metrics_file.h describes the format.
#pragma once
#include <string>
#include <string_view>
#include <variant>

#include "train/report/report.h"

namespace smoe {

using Report = std::variant<StartReport, StepReport, ValidationReport>;

/// A report as one line of JSON, without its newline.
std::string metrics_line(const Report& report);

/// The report in a line that metrics_line wrote; a key that the line lacks keeps its default.
/// Throws: UsageError, without the line's place, when it is no such line.
Report parse_metrics_line(std::string_view line);

/// The step that any report is about.
std::int64_t step_of(const Report& report);

}  // namespace smoe
