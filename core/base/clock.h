// The clock of all times that are compared within a process.
#pragma once
#include <chrono>
#include <cstdint>

namespace smoe {

/// Now, in nanoseconds of the steady clock.
inline std::int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch().count();
}

}  // namespace smoe
