// All outputs of a run except checkpoints: console, log.txt, metrics.jsonl, report.html and, with
// log.tensorboard, TensorBoard events.
#pragma once
#include <optional>
#include <string>

#include "train/config/run_paths.h"
#include "train/report/metrics_file.h"
#include "train/report/report_file.h"
#include "train/report/status_line.h"
#include "train/report/tensorboard_file.h"

namespace smoe {

class RunReports {
 public:
  /// For the run that `config` describes. Throws: SystemError.
  RunReports(const RunPaths& paths, const Config& config);
  /// Updates the page when an error ends the run.
  ~RunReports();
  RunReports(const RunReports&) = delete;
  RunReports& operator=(const RunReports&) = delete;

  /// Resumes after `step`: records of later steps are discarded. Must be called before the first
  /// add. Prints a warning when metrics.jsonl has damaged lines. Throws: SystemError.
  void begin_after(std::int64_t step);
  /// Writes a line to console and log; only to the log once the reader of standard output is gone.
  void say(const std::string& line);
  /// On a terminal, shows `text` until the next line, at most five times per second.
  void show_status(const std::string& text) { status_.show(text); }
  /// Writes a report to all outputs. Throws: SystemError.
  void add(const Report& report);
  /// What is in the metrics so far.
  const RunHistory& history() const { return page_.history(); }
  /// Makes the metrics durable; see MetricsFile::sync.
  void sync() { metrics_->sync(); }
  /// Updates the page.
  void finish();
  /// Writes no page any more: its folder is not that of this run.
  void abandon() { is_abandoned_ = true; }

 private:
  void print_line(const std::string& line);
  template <class Write>
  void write_page(Write&& write);

  RunPaths paths_;
  Config config_;
  LineWriter log_;
  StatusLine status_;
  ReportFile page_;
  std::optional<MetricsFile> metrics_;
  std::optional<TensorboardFile> events_;  // created by the first report
  std::int64_t resumed_step_ = 0;
  bool has_page_failed_ = false;
  bool is_abandoned_ = false;
};

}  // namespace smoe
