// How often a test repeats what it does at random.
#pragma once
#include <cstdlib>

namespace smoe::test {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kIsSanitized = true;  ///< and everything several times slower
#else
inline constexpr bool kIsSanitized = false;
#endif

/// `usual`, or `full` where SMOE_FULL_COUNTS is set: tests/scripts/reliability.sh does that.
inline int repetitions(int usual, int full) {
  return std::getenv("SMOE_FULL_COUNTS") ? full : usual;
}

}  // namespace smoe::test
