// A rank's output as it is kept: all of it in files that do not grow without bound, and its end in
// memory for the report of a failure.
#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "core/system/file.h"

namespace smoe {

/// Appends text to `path`. A file that would outgrow `max_bytes` is renamed to path.1 first,
/// path.1 to path.2 and so on; the oldest of them goes. A log that cannot be written, on a full
/// disk say, must not end a training run: it stops, and error() says why.
class RotatingLog {
 public:
  /// `path`: empty for a log that keeps nothing.
  /// Throws: SystemError when the file cannot be opened; UsageError unless max_bytes >= 1.
  RotatingLog(std::string path, std::int64_t max_bytes);

  void write(std::string_view lines);
  const std::string& path() const { return path_; }
  /// Why the log stopped; empty while it does not.
  const std::string& error() const { return error_; }

 private:
  void rotate();

  std::string path_;
  std::int64_t max_bytes_;
  std::int64_t bytes_ = 0;
  File file_;
  std::string error_;
};

/// How many older files there are beside the one that is written.
inline constexpr int kKeptLogs = 3;

/// The last lines of a text that comes line by line.
class LastLines {
 public:
  static constexpr std::size_t kMaxLines = 20;
  static constexpr std::size_t kMaxLineBytes = 1000;

  /// `line` without its newline; what is beyond the limits is cut off.
  void add(std::string_view line);
  const std::deque<std::string>& lines() const { return lines_; }

 private:
  std::deque<std::string> lines_;
};

}  // namespace smoe
