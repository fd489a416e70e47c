#include "core/range.h"

#include <algorithm>

namespace smoe {

Range overlap(const Range& a, const Range& b) {
  const std::int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

Range shard_range(std::int64_t numel, int rank, int world_size) {
  constexpr std::int64_t kUnit = 64;  // so that no two ranks write one cache line
  const std::int64_t share = (numel + world_size - 1) / world_size;
  const std::int64_t step = (share + kUnit - 1) / kUnit * kUnit;
  const std::int64_t begin = std::min(rank * step, numel);
  return {begin, std::min(begin + step, numel)};
}

}  // namespace smoe
