// The merges of byte pair encoding: which pairs of neighbouring symbols become one, in which order.
#pragma once
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace smoe {

class BpeMerges {
 public:
  /// Adds the next merge, of lower priority than those before. A pair that is added again takes the
  /// later priority. Ids are 0 or more.
  void add(std::int32_t left, std::int32_t right, std::int32_t result);
  /// Merges neighbours in `symbols` until no pair is left: always the pair of the highest priority,
  /// the leftmost of equal ones. O(n log n). Source: arXiv:1508.07909, section 3.2.
  void apply(std::vector<std::int32_t>& symbols) const;

 private:
  struct Merge {
    std::int32_t rank, result;
  };
  const Merge* find(std::int32_t left, std::int32_t right) const;

  std::unordered_map<std::uint64_t, Merge> merges_;
  std::int32_t next_rank_ = 0;
};

}  // namespace smoe
