// Drains what one rank prints, always and at once, so that no rank ever waits for a reader: to its
// log, to the console where that is asked for, and its last lines to memory.
#pragma once
#include <array>
#include <string>

#include "train/launch/console.h"
#include "train/launch/process_group.h"
#include "train/launch/rank_log.h"

namespace smoe {

/// What the console shows of a stream.
enum class Shown : std::uint8_t {
  nothing,
  bytes,  ///< all that is printed, as it comes
  lines,  ///< whole lines behind a prefix that names the rank
};

class RankOutput {
 public:
  struct Options {
    int rank = 0;
    std::string log_path;  ///< empty: none
    std::int64_t max_log_bytes = 0;
    Shown output = Shown::nothing;
    Shown error = Shown::nothing;
  };

  /// Takes over the child's ends of the pipes. Throws: SystemError when the log cannot be opened.
  RankOutput(PollLoop& loop, Console& console, const Options& options, Child& child);
  ~RankOutput();
  RankOutput(const RankOutput&) = delete;
  RankOutput& operator=(const RankOutput&) = delete;

  /// Takes what has been printed up to now.
  void take_rest();
  /// As take_rest, and closes the pipes, which a process that the rank left behind may still hold.
  void finish();

  /// Whether the console has shown all of it.
  bool is_shown() const;
  const std::string& log_path() const { return log_.path(); }
  const LastLines& last_lines() const { return last_lines_; }
  /// The last line of standard error: where a program says what made it fail. May be empty.
  const std::string& error_line() const { return error_line_; }

 private:
  struct Source {
    Descriptor pipe;
    Shown shown = Shown::nothing;
    bool is_error = false;
    std::string line;   // its beginning, as far as it has come
    std::string ended;  // lines that are still to be written
  };

  void drain(Source& source);
  ConsoleStream& console_of(const Source& source);
  void take(Source& source, std::string_view bytes);
  void end_line(Source& source);
  void write_ended(Source& source);
  void close(Source& source);

  PollLoop& loop_;
  Console& console_;
  int rank_;
  RotatingLog log_;
  bool has_told_log_error_ = false;
  LastLines last_lines_;
  std::string error_line_;
  std::array<Source, 2> sources_;
};

}  // namespace smoe
