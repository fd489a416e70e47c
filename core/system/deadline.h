// Deadline: the point on the monotonic clock at which a wait gives up.
#pragma once
#include <algorithm>
#include <chrono>

namespace smoe {

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  /// The time `seconds` from now.
  static Deadline in(double seconds) {
    Deadline deadline;
    deadline.total_s_ = seconds;
    deadline.at_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                      std::chrono::duration<double>(seconds));
    return deadline;
  }

  Clock::time_point at() const { return at_; }
  bool has_passed() const { return Clock::now() >= at_; }
  /// Milliseconds left, at least 0; rounded up so that a loop that waits for them does not spin.
  std::chrono::milliseconds left() const {
    return std::max(std::chrono::milliseconds(0),
                    std::chrono::ceil<std::chrono::milliseconds>(at_ - Clock::now()));
  }
  /// The duration that it was created with, for messages.
  double total_s() const { return total_s_; }

 private:
  Clock::time_point at_;
  double total_s_ = 0;
};

}  // namespace smoe
