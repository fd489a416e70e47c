// How often a test repeats what it does at random.
#pragma once
#include <cstdlib>

namespace smoe::test {

/// `usual`, a fifth of it where a sanitizer makes everything slow, or `full` where
/// SMOE_FULL_COUNTS is set: tests/scripts/reliability.sh does that.
inline int repetitions(int usual, int full) {
  if (std::getenv("SMOE_FULL_COUNTS")) return full;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return (usual + 4) / 5;
#else
  return usual;
#endif
}

}  // namespace smoe::test
