#include "train/report/report_file.h"

#include <algorithm>

#include "core/system/file.h"
#include "train/report/metrics_file.h"
#include "train/report/report_page.h"

namespace smoe {
namespace {

constexpr std::chrono::seconds kLeastPause{3};
constexpr int kPauseOverCost = 250;

}  // namespace

ReportFile::ReportFile(std::string path, const Config& config)
    : path_(std::move(path)), config_(config) {}

void ReportFile::restart(const std::string& metrics_path) {
  history_ = {};
  read_metrics(metrics_path, [this](const Report& report) { history_.add(report); });
}

void ReportFile::add(const Report& report) {
  history_.add(report);
  has_news_ = true;
}

void ReportFile::write_if_due() {
  if (Clock::now() >= due_) write();
}

void ReportFile::write() {
  if (!has_news_) return;
  has_news_ = false;
  const Clock::time_point begin = Clock::now();
  // Put off first, so that a full disk is not tried again at every step.
  due_ = begin + kLeastPause;
  write_file_atomically(path_, report_page(history_, config_));
  const Clock::time_point end = Clock::now();
  due_ = end + std::max<Clock::duration>(kLeastPause, kPauseOverCost * (end - begin));
}

}  // namespace smoe
