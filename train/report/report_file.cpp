#include "train/report/report_file.h"

#include <algorithm>

#include "core/system/file.h"
#include "core/system/format.h"

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
  if (has_new_reports_ && Clock::now() >= due_) write(RunState::running);
}

void ReportFile::write_ended() {
  if (has_new_reports_ || is_running_) write(ended_state(history_));
}

void ReportFile::write(RunState state) {
  has_new_reports_ = false;
  is_running_ = state == RunState::running;
  const Clock::time_point begin = Clock::now();
  // Set before writing, so that a full disk is not retried at every step.
  due_ = begin + kMinPause;
  write_file_atomically(path_, report_page(history_, config_, {state, utc_time()}));
  const Clock::time_point end = Clock::now();
  due_ = end + std::max<Clock::duration>(kMinPause, kPausePerWriteTime * (end - begin));
}

}  // namespace smoe
