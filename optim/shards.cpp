#include "optim/shards.h"

#include <algorithm>

namespace smoe {
namespace {

Range overlap(const Range& a, const Range& b) {
  const std::int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

/// The part of a bucket that `rank` owns, in elements of the flat buffers.
Range part_in(const Range& bucket, int rank, int world_size) {
  const Range part = shard_range(bucket.numel(), rank, world_size);
  return {bucket.begin + part.begin, bucket.begin + part.end};
}

/// Elements `part` of the flat buffers, in a tensor whose first element is their element `offset`.
Tensor elements(const Tensor& flat, const Range& part, std::int64_t offset) {
  return flat.view(part.begin - offset, {part.numel()});
}

}  // namespace

Shards::Shards(std::int64_t numel) : own_{{0, numel}}, num_own_(numel) {}

Shards::Shards(std::vector<Range> buckets, Communicator& communicator)
    : buckets_(std::move(buckets)), communicator_(&communicator) {
  for (const Range& bucket : buckets_) {
    const Range part = part_in(bucket, communicator.rank(), communicator.world_size());
    if (part.numel() == 0) continue;
    own_.push_back(part);
    num_own_ += part.numel();
  }
}

void Shards::visit(StateVisitor& visitor, std::string_view prefix, const ParameterStore& store,
                   const Tensor& state) const {
  if (!communicator_) return store.visit_buffer(visitor, prefix, state);
  store.for_each_part([&](const ParameterPart& part, std::int64_t offset) {
    Tensor whole = Tensor::empty(part.shape, state.dtype(), Category::workspace);
    const Tensor flat = whole.reshape({whole.numel()});
    const Range wanted{offset, offset + flat.numel()};
    const auto for_each_own = [&](auto&& copy) {
      std::int64_t at = 0;  // of the part in the state
      for (const Range& own : own_) {
        const Range common = overlap(own, wanted);
        if (common.numel() > 0)
          copy(elements(flat, common, offset), elements(state, common, own.begin - at));
        at += own.numel();
      }
    };
    for_each_own(
        [](const Tensor& in_whole, const Tensor& in_state) { in_whole.copy_from(in_state); });
    gather(flat, offset);
    visitor.tensor(concat(prefix, part.name), whole);
    for_each_own(
        [](const Tensor& in_whole, const Tensor& in_state) { in_state.copy_from(in_whole); });
  });
}

std::vector<Shards::Owned> Shards::owners_of(const Range& wanted) const {
  std::vector<Owned> owners;
  for (const Range& bucket : buckets_) {
    if (overlap(bucket, wanted).numel() == 0) continue;
    for (int rank = 0; rank < communicator_->world_size(); ++rank) {
      const Range common = overlap(part_in(bucket, rank, communicator_->world_size()), wanted);
      if (common.numel() > 0) owners.push_back({common, rank});
    }
  }
  return owners;
}

/// Broadcasts each rank's own elements of `whole`, whose first element is element `offset` of the
/// flat buffers.
void Shards::gather(const Tensor& whole, std::int64_t offset) const {
  std::vector<RootedTensor> own_elements;
  for (const Owned& owned : owners_of({offset, offset + whole.numel()}))
    own_elements.push_back({elements(whole, owned.range, offset), owned.rank});
  communicator_->broadcast_each(own_elements)->wait();
}

}  // namespace smoe
