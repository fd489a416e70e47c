// report.html of a run, rewritten at intervals during the run.
#pragma once
#include <chrono>
#include <functional>
#include <string>

#include "train/config/config.h"
#include "train/report/report_page.h"

namespace smoe {

class ReportFile {
 public:
  /// The page at `path` for the run that `config` describes.
  ReportFile(std::string path, const Config& config);

  /// Forgets all reports.
  void restart() { history_ = {}; }
  void add(const Report& report);
  const RunHistory& history() const { return history_; }
  /// Writes the page of a running run if there are new reports and enough time has passed: a few
  /// seconds, and so much that writing takes less than 1/250 of the time. Throws: SystemError.
  void write_if_due();
  /// Writes the page of a run that ends, unless it was written and there are no new reports.
  /// Throws: SystemError.
  void write_ended();

 private:
  using Clock = std::chrono::steady_clock;

  void write(RunState state);

  std::string path_;
  Config config_;
  RunHistory history_;
  bool has_new_reports_ = false;  // since the page was written
  bool is_running_ = false;       // by the page
  Clock::time_point due_ = Clock::now();
};

}  // namespace smoe
