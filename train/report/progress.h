// Progress of long operations: a redrawn bar on a terminal, otherwise a plain line at intervals.
#pragma once
#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <string>

namespace smoe {

/// Shows the progress of consecutive parts of an operation, in bytes.
class Progress {
 public:
  /// The bar is redrawn at most ten times per second; without a terminal one line is written every
  /// five seconds, so that short operations show nothing.
  Progress(std::ostream& out, bool is_terminal) : out_(out), is_terminal_(is_terminal) {}
  /// Clears the bar.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` of `total` bytes of `part` ("encoding") are done; another name begins a new part.
  /// `total` is 0 or less if the amount is unknown; no share is shown then.
  void update(const std::string& part, std::int64_t done, std::int64_t total);

 private:
  using Clock = std::chrono::steady_clock;

  std::ostream& out_;
  bool is_terminal_;
  bool is_shown_ = false;
  std::string part_;
  Clock::time_point begin_ = Clock::now();  // of the part
  Clock::time_point last_ = begin_;         // last shown, or the start
};

/// "encoding  [=========>          ]  47%  4.11 MiB of 8.74 MiB  1.45 MiB/s  eta 3s", with the bar
/// if `has_bar`; "training the tokenizer  12s" if `total` is unknown.
std::string progress_text(const std::string& part, std::int64_t done, std::int64_t total,
                          double elapsed_s, bool has_bar);

}  // namespace smoe
