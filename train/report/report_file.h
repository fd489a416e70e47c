// report.html of a run, rewritten now and then while the run lasts.
#pragma once
#include <chrono>
#include <string>

#include "train/config/config.h"
#include "train/report/history.h"

namespace smoe {

class ReportFile {
 public:
  /// A page at `path` of the run that `config` describes.
  ReportFile(std::string path, const Config& config);

  /// Forgets what was added and begins with what the metrics file at `metrics_path` holds.
  void restart(const std::string& metrics_path);
  void add(const Report& report);
  /// Writes the page if there is news and the last time is long enough ago: some seconds, and so
  /// long that writing takes less than 1/250 of the time. Throws: SystemError.
  void write_if_due();
  /// Writes the page if there is news. Throws: SystemError.
  void write();

 private:
  using Clock = std::chrono::steady_clock;

  std::string path_;
  Config config_;
  RunHistory history_;
  bool has_news_ = false;
  Clock::time_point due_ = Clock::now();
};

}  // namespace smoe
