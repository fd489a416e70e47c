// Tiles that clusters draw one after the other, as they get done with the ones before.
#pragma once
#include "kernels/cuda/hopper/pipeline.cuh"

namespace smoe::kernels::cuda::hopper {

/// The numbers of the tiles a cluster takes: the first block draws them, all warpgroups of both
/// read them. A ring of two.
class TileQueue {
 public:
  static constexpr int kSize = 2;
  static constexpr int kBytes = kSize * 2 * 8 + kSize * 8;
  using Position = RingPosition<kSize>;

  __device__ explicit TileQueue(std::uint32_t memory) : memory_(memory) {}

  __device__ void init() const {
    for (int i = 0; i < kSize; ++i) {
      init_barrier(ready(i), 1);
      init_barrier(free(i), (kConsumers + 1) * kClusterSize);
    }
  }
  /// For one thread of the first block.
  __device__ void put(Position& position, int number) const {
    const int slot = position.stage();
    wait_for_cluster(free(slot), position.parity());
    for (int rank = 0; rank < kClusterSize; ++rank) {
      store_at(number_at(slot), rank, number);
      arrive_behind_writes_at(ready(slot), rank);
    }
    position.next();
  }
  /// For a whole warpgroup, which has number `warpgroup` among the block's.
  __device__ int take(Position& position, int warpgroup) const {
    const int slot = position.stage();
    wait_for_cluster(ready(slot), position.parity());
    int number;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(number) : "r"(number_at(slot)) : "memory");
    sync_warpgroup(warpgroup);
    if (threadIdx.x % kWarpgroup == 0) arrive_at(free(slot), 0);
    position.next();
    return number;
  }

 private:
  __device__ std::uint32_t ready(int slot) const { return memory_ + slot * 8; }
  __device__ std::uint32_t free(int slot) const { return memory_ + (kSize + slot) * 8; }
  __device__ std::uint32_t number_at(int slot) const { return memory_ + (2 * kSize + slot) * 8; }

  std::uint32_t memory_;
};

}  // namespace smoe::kernels::cuda::hopper
