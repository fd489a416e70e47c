// All that a run tells while it lasts, to everyone who listens: console, log.txt, metrics.jsonl,
// report.html and, where log.tensorboard says so, TensorBoard.
#pragma once
#include <optional>
#include <string>

#include "train/config/run_paths.h"
#include "train/report/metrics_file.h"
#include "train/report/report_file.h"
#include "train/report/tensorboard_file.h"

namespace smoe {

class RunReports {
 public:
  /// Of the run that `config` describes. Throws: SystemError.
  RunReports(const RunPaths& paths, const Config& config);
  /// Brings the page up to date where an error ends the run.
  ~RunReports();
  RunReports(const RunReports&) = delete;
  RunReports& operator=(const RunReports&) = delete;

  /// Goes on after `step`: what was told of later steps is taken back. To be called before the
  /// first add. Throws: UsageError when metrics.jsonl holds what this program never wrote;
  /// SystemError.
  void begin_after(std::int64_t step);
  /// A line for people: console and log.
  void say(const std::string& line);
  /// Throws: SystemError.
  void add(const Report& report);
  /// Makes the metrics durable; see MetricsFile::sync.
  void sync() { metrics_->sync(); }
  /// Brings the page up to date.
  void finish();

 private:
  template <class Write>
  void write_page(Write&& write);

  RunPaths paths_;
  LineWriter log_;
  ReportFile page_;
  std::optional<MetricsFile> metrics_;
  bool has_tensorboard_;
  std::optional<TensorboardFile> events_;  // made when there is something to write
  std::int64_t begun_after_ = 0;           // step
  bool has_page_failed_ = false;
};

}  // namespace smoe
