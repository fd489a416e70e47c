#include "optim/shards.h"

namespace smoe {
namespace {

/// The part of a bucket that `rank` owns, in elements of the flat buffers.
Range part_in(const Range& bucket, int rank, int world_size) {
  const Range part = shard_range(bucket.numel(), rank, world_size);
  return {bucket.begin + part.begin, bucket.begin + part.end};
}

}  // namespace

Shards::Shards(std::vector<Range> buckets, int rank, int world_size)
    : buckets_(std::move(buckets)), world_size_(world_size) {
  for (const Range& bucket : buckets_) {
    const Range part = part_in(bucket, rank, world_size);
    if (part.numel() > 0) own_.push_back(part);
  }
}

std::vector<Shards::Owned> Shards::owners_of(const Range& wanted) const {
  std::vector<Owned> owners;
  for (const Range& bucket : buckets_) {
    if (overlap(bucket, wanted).numel() == 0) continue;
    for (int rank = 0; rank < world_size_; ++rank) {
      const Range common = overlap(part_in(bucket, rank, world_size_), wanted);
      if (common.numel() > 0) owners.push_back({common, rank});
    }
  }
  return owners;
}

}  // namespace smoe
