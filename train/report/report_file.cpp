#include "train/report/report_file.h"

#include <algorithm>

#include "core/system/file.h"
#include "train/report/report_page.h"

namespace smoe {
namespace {

constexpr std::chrono::seconds kMinPause{3};
constexpr int kPausePerWriteTime = 250;

}  // namespace

ReportFile::ReportFile(std::string path, const Config& config)
    : path_(std::move(path)), config_(config) {}

void ReportFile::add(const Report& report) {
  history_.add(report);
  has_new_reports_ = true;
}

void ReportFile::write_if_due() {
  if (Clock::now() >= due_) write();
}

void ReportFile::write() {
  if (!has_new_reports_) return;
  has_new_reports_ = false;
  const Clock::time_point begin = Clock::now();
  // Set before writing, so that a full disk is not retried at every step.
  due_ = begin + kMinPause;
  write_file_atomically(path_, report_page(history_, config_));
  const Clock::time_point end = Clock::now();
  due_ = end + std::max<Clock::duration>(kMinPause, kPausePerWriteTime * (end - begin));
}

}  // namespace smoe
