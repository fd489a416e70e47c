// Shards: which rank owns which elements of the flat buffers. With ZeRO stage 1 (arXiv:1910.02054)
// each rank keeps optimizer state only for its part of each bucket.
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
  /// Unsharded: every rank owns all `numel` elements.
  explicit Shards(std::int64_t numel);
  /// Each rank owns its shard_range of each bucket. `buckets` tile the buffers in ascending order;
  /// `communicator` must outlive this.
  Shards(std::vector<Range> buckets, Communicator& communicator);

  /// This rank's elements, in ascending order.
  std::span<const Range> own() const { return own_; }
  /// Their number. Optimizer state holds them in this order without gaps.
  std::int64_t num_own() const { return num_own_; }

  /// A range of the buffers and the rank that owns it.
  struct Owned {
    Range range;
    int rank;
  };
  /// `wanted`, elements of the buffers, by owner in ascending order. Only if sharded.
  std::vector<Owned> owners_of(const Range& wanted) const;

  /// Visits `state`, [num_own], part by part as `prefix` + name. Each part is gathered from all
  /// ranks, and the visitor's changes are written back. A collective operation if sharded.
  void visit(StateVisitor& visitor, std::string_view prefix, const ParameterStore& store,
             const Tensor& state) const;

 private:
  void gather(const Tensor& whole, std::int64_t offset) const;

  std::vector<Range> buckets_;            // empty if unsharded
  Communicator* communicator_ = nullptr;  // null if unsharded
  std::vector<Range> own_;
  std::int64_t num_own_ = 0;
};

}  // namespace smoe
