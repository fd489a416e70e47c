// metrics.jsonl: one JSON object a line for every report, in order of steps.
//
//   {"kind":"step","step":3,"steps":2000,"loss":2.34,...}
//   {"kind":"validation","step":200,"steps":2000,"loss":2.12,"bits_per_byte":3.06,...}
//
// JSON has no NaN and no infinity: such a number is null, and "nonfinite" says which it was:
//   {"kind":"step","step":4,...,"loss":null,...,"nonfinite":{"loss":"nan"}}
#pragma once
#include <cstdint>
#include <string>

#include "core/io.h"
#include "train/report/report.h"

namespace smoe {

/// A report as one line of JSON, without its newline.
std::string metrics_line(const StepReport& report);
std::string metrics_line(const ValidationReport& report);

/// Writes metrics.jsonl so that it tells one story: of a run that goes on after step `s`, lines
/// about later steps are cut away first.
class MetricsFile {
 public:
  /// Opens or creates `path` for a run that has done `resumed_step` steps, 0 for a new one. Cuts
  /// from the first line that is about a later step or is no line of this format.
  /// Throws: SystemError.
  MetricsFile(const std::string& path, std::int64_t resumed_step);

  void write(const StepReport& report) { lines_.write(metrics_line(report)); }
  void write(const ValidationReport& report) { lines_.write(metrics_line(report)); }
  /// Makes all lines durable. To be called before a checkpoint is saved, so that a resumed run
  /// finds every line up to its step.
  void sync() { lines_.sync(); }

 private:
  LineWriter lines_;
};

}  // namespace smoe
