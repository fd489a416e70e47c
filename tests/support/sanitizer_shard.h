// SanitizerShard: which cases a process takes where compute-sanitizer's run is spread over several.
#pragma once
#include <cstdio>
#include <cstdlib>

#include "core/base/check.h"

namespace smoe::test {

/// Whether this process checks the next case. A sanitizer's run is spread over COUNT processes, of
/// which each takes every COUNT-th case: SMOE_SANITIZER_SHARD=INDEX/COUNT.
class SanitizerShard {
 public:
  /// Throws: UsageError for a value that is no shard.
  static SanitizerShard from_environment() {
    SanitizerShard shard;
    if (const char* text = std::getenv("SMOE_SANITIZER_SHARD")) {
      if (std::sscanf(text, "%d/%d", &shard.index_, &shard.count_) != 2 || shard.index_ < 0 ||
          shard.index_ >= shard.count_)
        throw UsageError(concat("SMOE_SANITIZER_SHARD is INDEX/COUNT, not ", text));
    }
    return shard;
  }

  bool is_on() const { return count_ > 0; }
  bool takes_next() { return next_++ % count_ == index_; }

 private:
  int index_ = 0, count_ = 0, next_ = 0;
};

inline SanitizerShard& sanitizer_shard() {
  static SanitizerShard shard = SanitizerShard::from_environment();
  return shard;
}

}  // namespace smoe::test
