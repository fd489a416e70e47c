// Range: consecutive elements of a tensor; and how ranks divide a tensor among them.
#pragma once
#include <cstdint>

namespace smoe {

/// Elements [begin, end).
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t numel() const { return end - begin; }
};

/// The elements that are in both; an empty range if there are none.
Range overlap(const Range& a, const Range& b);

/// The elements of a tensor of `numel` that belong to `rank`: shards of equal size, a multiple of
/// 64 elements, except that the last nonempty one may be smaller and those after it are empty.
Range shard_range(std::int64_t numel, int rank, int world_size);

}  // namespace smoe
