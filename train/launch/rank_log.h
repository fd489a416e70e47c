// The stored output of a rank: rotating log files of bounded size, and its last lines in memory for
// the failure report.
#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "core/system/file.h"

namespace smoe {

/// Appends text to `path`. A file that would exceed `max_bytes` is first renamed to path.1, path.1
/// to path.2 and so on; the oldest is removed. A log that cannot be written, as on a full disk,
/// must not end a training run: it stops, and error() returns the reason.
class RotatingLog {
 public:
  /// An empty `path` makes a log that stores nothing.
  /// Throws: SystemError when the file cannot be opened; UsageError unless max_bytes >= 1.
  RotatingLog(std::string path, std::int64_t max_bytes);

  void write(std::string_view lines);
  const std::string& path() const { return path_; }
  /// Why the log stopped; empty if it did not.
  const std::string& error() const { return error_; }

 private:
  void rotate();

  std::string path_;
  std::int64_t max_bytes_;
  std::int64_t bytes_ = 0;
  File file_;
  std::string error_;
};

/// Number of older files kept besides the current one.
inline constexpr int kNumOldLogs = 3;

/// The last lines of a text.
class LastLines {
 public:
  static constexpr std::size_t kMaxLines = 20;
  static constexpr std::size_t kMaxLineBytes = 1000;

  /// `line` without its newline; longer lines are cut.
  void add(std::string_view line);
  const std::deque<std::string>& lines() const { return lines_; }

 private:
  std::deque<std::string> lines_;
};

}  // namespace smoe
