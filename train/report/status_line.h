// A line on a terminal that the next one replaces: what a run does between two log lines.
#pragma once
#include <chrono>
#include <iosfwd>
#include <string>

namespace smoe {

class StatusLine {
 public:
  /// Without a terminal it shows nothing.
  StatusLine(std::ostream& out, bool is_terminal) : out_(out), is_terminal_(is_terminal) {}
  /// Clears the line.
  ~StatusLine() { clear(); }
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  /// Replaces the line, which must be printable and short; does nothing within 0.2 s of the last
  /// time.
  void show(const std::string& text);
  /// Must be called before another line is written.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;

  std::ostream& out_;
  bool is_terminal_;
  bool is_shown_ = false;
  Clock::time_point last_ = Clock::now();
};

}  // namespace smoe
