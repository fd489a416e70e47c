// How far long work is: a bar that is redrawn on a terminal, a plain line now and then otherwise.
#pragma once
#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <string>

namespace smoe {

/// Shows one part of the work after the other. Amounts are bytes.
class Progress {
 public:
  /// A bar is redrawn ten times a second at most; without a terminal there is one line every five
  /// seconds, so that short work shows nothing.
  Progress(std::ostream& out, bool is_terminal) : out_(out), is_terminal_(is_terminal) {}
  /// Clears the bar.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` of `total` bytes of `part` ("encoding") are done; a new name begins a new part. Of work
  /// whose amount is not known `total` is 0, and only its time is shown.
  void update(const std::string& part, std::int64_t done, std::int64_t total);

 private:
  using Clock = std::chrono::steady_clock;

  std::ostream& out_;
  bool is_terminal_;
  bool is_shown_ = false;
  std::string part_;
  Clock::time_point begin_ = Clock::now();  // of the part
  Clock::time_point last_ = begin_;         // shown, or begin of all
};

/// "encoding  [=========>          ]  47%  4.11 MiB of 8.74 MiB  1.45 MiB/s  eta 3s", the bar only
/// on demand; "training the tokenizer  12s" when `total` is 0.
std::string progress_text(const std::string& part, std::int64_t done, std::int64_t total,
                          double elapsed_s, bool has_bar);

}  // namespace smoe
