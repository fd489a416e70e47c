// Shards: which rank updates which elements of the flat buffers. With ZeRO stage 1
// (arXiv:1910.02054) each rank keeps master weights and optimizer state only for its part of each
// bucket.
#pragma once
#include <span>
#include <vector>

#include "core/range.h"

namespace smoe {

class Shards {
 public:
  /// Each of `world_size` ranks owns its shard_range of each bucket. `buckets` tile the buffers in
  /// ascending order; `rank` is this one.
  Shards(std::vector<Range> buckets, int rank, int world_size);

  /// This rank's elements, in ascending order.
  std::span<const Range> own() const { return own_; }

  /// A range of the buffers and the rank that owns it.
  struct Owned {
    Range range;
    int rank;
  };
  /// `wanted`, elements of the buffers, by owner in ascending order.
  std::vector<Owned> owners_of(const Range& wanted) const;

 private:
  std::vector<Range> buckets_;
  int world_size_;
  std::vector<Range> own_;
};

}  // namespace smoe
