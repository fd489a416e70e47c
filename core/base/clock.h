// The clock of all times that are compared within a process.
#pragma once
#include <chrono>
#include <cstdint>

namespace smoe {

/// Now, in nanoseconds of the steady clock.
inline std::int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch().count();
}

/// The seconds that work() takes.
template <class Work>
double seconds_of(const Work& work) {
  const std::int64_t start_ns = now_ns();
  work();
  return 1e-9 * static_cast<double>(now_ns() - start_ns);
}

}  // namespace smoe
