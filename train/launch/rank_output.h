// RankOutput: reads the output of one rank continuously, so that no rank ever blocks on it, and
// writes it to its log and, if requested, to the console; keeps the last lines in memory.
#pragma once
#include <array>
#include <string>
#include <string_view>

#include "train/launch/console.h"
#include "train/launch/process_group.h"
#include "train/launch/rank_log.h"

namespace smoe {

/// How the console shows a stream.
enum class ConsoleMode : std::uint8_t {
  none,
  raw,             ///< the bytes as they arrive
  prefixed_lines,  ///< whole lines, each after a prefix with the rank
};

/// A line of a rank's output without "rank 3: ", with which a rank of smoe begins its error.
std::string_view without_rank(std::string_view line, int rank);

class RankOutput {
 public:
  struct Options {
    int rank = 0;
    std::string log_path;  ///< empty: no log
    std::int64_t max_log_bytes = 0;
    ConsoleMode output = ConsoleMode::none;
    ConsoleMode error = ConsoleMode::none;
  };

  /// Takes ownership of the child's pipes. Throws: SystemError when the log cannot be opened.
  RankOutput(PollLoop& loop, Console& console, const Options& options, Child& child);
  ~RankOutput();
  RankOutput(const RankOutput&) = delete;
  RankOutput& operator=(const RankOutput&) = delete;

  /// Reads all output that is available now.
  void drain_all();
  /// Like drain_all, and closes the pipes, which surviving descendants of the rank may still hold.
  void finish();

  /// Whether the console shows both streams.
  bool is_fully_shown() const;
  const std::string& log_path() const { return log_.path(); }
  const LastLines& last_lines() const { return last_lines_; }
  /// The last nonempty line of standard error, usually the error message. May be empty.
  const std::string& error_line() const { return error_line_; }

 private:
  struct Source {
    Descriptor pipe;
    ConsoleMode mode = ConsoleMode::none;
    bool is_error = false;
    std::string line;      // the incomplete last line
    std::string complete;  // complete lines, not yet written to the log
  };

  void drain(Source& source);
  ConsoleStream& console_of(const Source& source);
  void take(Source& source, std::string_view bytes);
  void end_line(Source& source);
  void write_complete_lines(Source& source);
  void close(Source& source);

  PollLoop& loop_;
  Console& console_;
  int rank_;
  RotatingLog log_;
  bool has_reported_log_error_ = false;
  LastLines last_lines_;
  std::string error_line_;
  std::array<Source, 2> sources_;
};

}  // namespace smoe
