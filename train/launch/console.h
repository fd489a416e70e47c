// What the launcher shows: its own lines, and the output of ranks. Nobody who reads slowly, or a
// terminal that is stopped, makes the launcher wait: what does not fit a bounded buffer is left
// out, and the console says so as soon as it takes output again.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "core/system/descriptor.h"
#include "train/launch/poll_loop.h"

namespace smoe {

/// Writes to a descriptor as fast as that takes it.
class ConsoleStream {
 public:
  /// `descriptor`: 1 or 2, as this process was given them.
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
  std::int64_t left_out_bytes_ = 0;
};

class Console {
 public:
  explicit Console(PollLoop& loop) : loop_(loop), output_(loop, 1), error_(loop, 2) {}
  /// Waits up to a second for what is pending.
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  ConsoleStream& output() { return output_; }
  ConsoleStream& error() { return error_; }
  /// A line of the launcher's own, to standard error.
  void say(std::string_view line);

 private:
  PollLoop& loop_;
  ConsoleStream output_;
  ConsoleStream error_;
};

}  // namespace smoe
