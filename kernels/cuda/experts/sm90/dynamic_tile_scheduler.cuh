// Dynamic tile scheduler: clusters take tiles from an atomic counter as they finish earlier ones.
#pragma once
#include "kernels/cuda/experts/sm90/pipeline.cuh"

namespace smoe::kernels::cuda::sm90 {

/// Broadcasts the tile numbers of a cluster: the producer of block 0 publishes them, all warpgroups
/// of both blocks read them. A pipeline of two slots.
class DynamicTileScheduler {
 public:
  static constexpr int kSlots = 2;
  static constexpr int kBytes = kSlots * 2 * 8 + kSlots * 8;
  using State = PipelineState<kSlots>;

  /// `memory` holds kBytes, aligned to 8.
  __device__ explicit DynamicTileScheduler(std::uint32_t memory) : memory_(memory) {}

  __device__ void init() const {
    for (int i = 0; i < kSlots; ++i) {
      mbarrier_init(full_barrier(i), 1);
      mbarrier_init(empty_barrier(i), (kNumConsumers + 1) * kClusterSize);
    }
  }
  /// Called by one thread of cluster block 0.
  __device__ void publish(State& state, int tile) const {
    const int slot = state.stage();
    mbarrier_wait_acquire_cluster(empty_barrier(slot), state.phase());
    for (int rank = 0; rank < kClusterSize; ++rank) {
      store_shared_cluster(tile_address(slot), rank, tile);
      mbarrier_arrive_release_cluster(full_barrier(slot), rank);
    }
    state.advance();
  }
  /// Called by all threads of warpgroup `warpgroup` of the block.
  __device__ int next(State& state, int warpgroup) const {
    const int slot = state.stage();
    mbarrier_wait_acquire_cluster(full_barrier(slot), state.phase());
    int tile;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(tile) : "r"(tile_address(slot)) : "memory");
    warpgroup_sync(warpgroup);
    if (threadIdx.x % kWarpgroup == 0) mbarrier_arrive_cluster(empty_barrier(slot), 0);
    state.advance();
    return tile;
  }

 private:
  __device__ std::uint32_t full_barrier(int slot) const { return memory_ + slot * 8; }
  __device__ std::uint32_t empty_barrier(int slot) const { return memory_ + (kSlots + slot) * 8; }
  __device__ std::uint32_t tile_address(int slot) const {
    return memory_ + (2 * kSlots + slot) * 8;
  }

  std::uint32_t memory_;
};

}  // namespace smoe::kernels::cuda::sm90
