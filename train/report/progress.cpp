#include "train/report/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ostream>

#include "core/system/format.h"

namespace smoe {
namespace {

constexpr int kBarWidth = 24;

double seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

Progress::~Progress() {
  if (is_shown_ && is_terminal_) out_ << "\r\033[K" << std::flush;
}

void Progress::update(const std::string& part, std::int64_t done, std::int64_t total) {
  const Clock::time_point now = Clock::now();
  if (part != part_) {
    part_ = part;
    begin_ = now;
  }
  if (seconds(now - last_) < (is_terminal_ ? 0.1 : 5.0)) return;
  last_ = now;
  is_shown_ = true;
  const std::string text = progress_text(part, done, total, seconds(now - begin_), is_terminal_);
  if (is_terminal_) {
    out_ << "\r\033[K" << text << std::flush;
  } else {
    out_ << text << std::endl;
  }
}

std::string progress_text(const std::string& part, std::int64_t done, std::int64_t total,
                          double elapsed_s, bool has_bar) {
  if (total <= 0)
    return fmt::format("{}{}  {}", part, done > 0 ? "  " + format_bytes(done) : "",
                       format_duration(elapsed_s));
  const double share =
      total > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0) : 0;
  std::string text = part;
  if (has_bar) {
    const int filled = static_cast<int>(share * kBarWidth);
    const bool has_tip = filled < kBarWidth;
    text += fmt::format("  [{:=<{}}{}{: <{}}]", "", filled, has_tip ? ">" : "", "",
                        kBarWidth - filled - has_tip);
  }
  text += fmt::format("  {:3}%  {} of {}", static_cast<int>(100 * share), format_bytes(done),
                      format_bytes(total));
  if (done > 0 && elapsed_s > 0)
    text +=
        fmt::format("  {}/s", format_bytes(std::llround(static_cast<double>(done) / elapsed_s)));
  if (share > 0 && share < 1)
    text += fmt::format("  eta {}", format_duration(elapsed_s * (1 - share) / share));
  return text;
}

}  // namespace smoe
