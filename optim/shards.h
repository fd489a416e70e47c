// Shards: whose business which elements of the arenas are. With ZeRO (arXiv:1910.02054, stage 1)
// each rank keeps optimizer state for its part of each bucket, and no other.
#pragma once
#include <span>
#include <string_view>
#include <vector>

#include "autograd/parameter_store.h"
#include "core/distributed/communicator.h"
#include "core/state.h"

namespace smoe {

class Shards {
 public:
  /// All of arenas of `numel` elements, on every rank.
  explicit Shards(std::int64_t numel);
  /// The calling rank's part_of each bucket. `buckets` tile the arenas in ascending order; `ranks`
  /// must outlive this.
  Shards(std::vector<Range> buckets, Communicator& ranks);

  /// This rank's elements, ascending.
  std::span<const Range> own() const { return own_; }
  /// How many they are; state for them lies in their order without gaps.
  std::int64_t num_own() const { return num_own_; }

  /// Shows `state`, [num_own], part by part as `prefix` + name: each part whole, brought together
  /// from all ranks, and what a visitor changes taken over. All ranks must visit together, if the
  /// state is not whole on each.
  void visit(StateVisitor& visitor, std::string_view prefix, const ParameterStore& store,
             const Tensor& state) const;

 private:
  void gather(const Tensor& whole, std::int64_t offset) const;

  std::vector<Range> buckets_;     // empty: everything is here
  Communicator* ranks_ = nullptr;  // who hold the rest
  std::vector<Range> own_;
  std::int64_t num_own_ = 0;
};

}  // namespace smoe
