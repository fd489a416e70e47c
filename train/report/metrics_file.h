// metrics.jsonl: one JSON object a line for every report, in order of steps.
//
//   {"kind":"start","step":0,"steps":2000,"time":"2026-03-21T14:05:09Z","device":"cpu",...}
//   {"kind":"step","step":3,"steps":2000,"loss":2.34,...,"memory":{"parameters":13924352,...},
//    "layers":{"imbalance":[1.31,...],...,"expert_rows":[[498,530,...],...]}}     (one line)
//   {"kind":"validation","step":200,"steps":2000,"loss":2.12,"bits_per_byte":3.06,...}
//
// The keys are the members of the structs in report.h, in their order and with their meaning.
// "memory" has a key for each category of core/memory.h; "layers" has lists with one element for
// each layer with experts, so that a column is `.layers.z_loss[3]` to jq.
// JSON has no NaN and no infinity: such a number is null, and "nonfinite" says which it was:
//   {"kind":"step","step":4,...,"loss":null,...,"nonfinite":{"loss":"nan","layers.z_loss.3":"inf"}}
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "core/system/file.h"
#include "train/report/metrics_line.h"

namespace smoe {

/// Calls `take` with every report in the file at `path`, in order. A last line without its newline
/// is one that is being written, and is left out.
/// Throws: UsageError `path:line: rule` for a line that is none of this format; SystemError.
void read_metrics(const std::string& path, const std::function<void(const Report&)>& take);

/// Writes metrics.jsonl so that it tells one story: of a run that goes on after step `s`, lines
/// about later steps are cut away first.
class MetricsFile {
 public:
  /// Opens or creates `path` for a run that has done `resumed_step` steps. Cuts from the first line
  /// that is about a later step or is no line of this format; everything when no step is done.
  /// Throws: SystemError.
  MetricsFile(const std::string& path, std::int64_t resumed_step);

  void write(const Report& report) { lines_.write(metrics_line(report)); }
  /// Makes all lines durable. To be called before a checkpoint is saved, so that a resumed run
  /// finds every line up to its step.
  void sync() { lines_.sync(); }

 private:
  LineWriter lines_;
};

}  // namespace smoe
