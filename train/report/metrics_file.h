// metrics.jsonl: one line with a JSON object per report, in order of steps.
//
//   {"kind":"start","step":0,"steps":2000,"time":"2026-03-21T14:05:09Z","device":"cpu",...}
//   {"kind":"step","step":3,"steps":2000,"loss":2.34,...,"memory":{"parameters":13924352,...},
//    "layers":{"imbalance":[1.31,...],...,"expert_rows":[[498,530,...],...]}}     (one line)
//   {"kind":"validation","step":200,"steps":2000,"loss":2.12,"bits_per_byte":3.06,...}
//   {"kind":"change","step":200,"steps":3000,"changes":{"key":["train.steps"],"before":["2000"],
//    "after":["3000"]}}                                                            (one line)
//
// The keys are the members of the structs in report.h, in the same order and with the same meaning.
// "memory" has one key per category of core/memory.h; "layers" has lists with one element per layer
// with experts, for example `.layers.z_loss[3]` in jq.
// JSON has no NaN and no infinity: such a number is null, and "nonfinite" gives its value:
//   {"kind":"step","step":4,...,"loss":null,...,"nonfinite":{"loss":"nan","layers.z_loss.3":"inf"}}
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "core/system/file.h"
#include "train/report/metrics_line.h"

namespace smoe {

using OnReport = std::function<void(const Report&)>;
using OnWarning = std::function<void(const std::string&)>;

/// Calls `take` with every report in the file at `path`, in order. Passes over damaged lines, and
/// then calls `warn` once, with `path:line: rule` of the first. Ignores a last line without a
/// newline, which is still being written. Throws: SystemError.
void read_metrics(const std::string& path, const OnReport& take, const OnWarning& warn);

/// Writes metrics.jsonl. When a run resumes after step s, lines of later steps are removed first,
/// so that each step occurs once.
class MetricsFile {
 public:
  /// Opens or creates `path` for a run that has done `resumed_step` steps. Truncates the file after
  /// the last line up to that step, or completely when no step is done; damaged lines before it
  /// stay. Calls `take` with the reports that stay, in order, and `warn` as read_metrics.
  /// Throws: SystemError.
  MetricsFile(
      const std::string& path, std::int64_t resumed_step,
      const OnReport& take = [](const Report&) {},
      const OnWarning& warn = [](const std::string&) {});

  void write(const Report& report) { lines_.write(metrics_line(report)); }
  /// Makes all lines durable. Called before a checkpoint is saved, so that a resumed run finds
  /// every line up to its step.
  void sync() { lines_.sync(); }

 private:
  LineWriter lines_;
};

}  // namespace smoe
