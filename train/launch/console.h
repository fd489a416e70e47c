// The launcher's console output: its own messages and the output of ranks. A slow reader or a
// stopped terminal never blocks the launcher: output beyond a bounded buffer is dropped, and a
// message reports the number of dropped bytes once the console accepts output again.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "core/system/descriptor.h"
#include "train/launch/poll_loop.h"

namespace smoe {

/// Non-blocking, buffered output to a descriptor.
class ConsoleStream {
 public:
  /// `descriptor` is 1 or 2, as inherited by this process.
  ConsoleStream(PollLoop& loop, int descriptor);
  ~ConsoleStream();
  ConsoleStream(const ConsoleStream&) = delete;
  ConsoleStream& operator=(const ConsoleStream&) = delete;

  void write(std::string_view bytes);
  bool has_pending() const { return !pending_.empty(); }

 private:
  void write_pending();

  PollLoop& loop_;
  Descriptor descriptor_;
  std::string pending_;
  std::int64_t dropped_bytes_ = 0;
};

class Console {
 public:
  explicit Console(PollLoop& loop) : loop_(loop), output_(loop, 1), error_(loop, 2) {}
  /// Waits up to one second for pending output.
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  ConsoleStream& output() { return output_; }
  ConsoleStream& error() { return error_; }
  /// Prints a message of the launcher to standard error.
  void print_line(std::string_view line);

 private:
  PollLoop& loop_;
  ConsoleStream output_;
  ConsoleStream error_;
};

}  // namespace smoe
