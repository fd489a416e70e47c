// How often tests repeat randomized work.
#pragma once
#include <cstdlib>

namespace smoe::test {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kIsSanitized = true;  ///< everything is several times slower
#else
inline constexpr bool kIsSanitized = false;
#endif

/// `usual`, or `full` if SMOE_FULL_COUNTS is set, as tests/scripts/reliability.sh does.
inline int repetitions(int usual, int full) {
  return std::getenv("SMOE_FULL_COUNTS") ? full : usual;
}

}  // namespace smoe::test
