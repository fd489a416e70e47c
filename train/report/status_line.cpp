#include "train/report/status_line.h"

#include <ostream>

namespace smoe {
namespace {

constexpr const char* kClear = "\r\x1b[K";
constexpr std::chrono::milliseconds kPause{200};

}  // namespace

void StatusLine::show(const std::string& text) {
  const Clock::time_point now = Clock::now();
  if (!is_terminal_ || now - last_ < kPause) return;
  last_ = now;
  is_shown_ = true;
  out_ << kClear << text << std::flush;
}

void StatusLine::clear() {
  if (!is_shown_) return;
  is_shown_ = false;
  out_ << kClear << std::flush;
}

}  // namespace smoe
