// SanitizerShard: which cases a process runs if a run under compute-sanitizer is split into
// several.
#pragma once
#include <cstdio>
#include <cstdlib>

#include "core/base/check.h"

namespace smoe::test {

/// Whether this process runs the next case. A sanitized run is split over COUNT processes, each of
/// which runs every COUNT-th case: SMOE_SANITIZER_SHARD=INDEX/COUNT.
class SanitizerShard {
 public:
  /// Throws: UsageError for an invalid value.
  static SanitizerShard from_environment() {
    SanitizerShard shard;
    if (const char* text = std::getenv("SMOE_SANITIZER_SHARD")) {
      if (std::sscanf(text, "%d/%d", &shard.index_, &shard.count_) != 2 || shard.index_ < 0 ||
          shard.index_ >= shard.count_)
        throw UsageError(concat("SMOE_SANITIZER_SHARD must be INDEX/COUNT; got ", text));
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
