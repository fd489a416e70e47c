// Dynamic tile scheduling: clusters take tiles from a counter in global memory as they finish
// earlier ones, so that a cluster that starts late (its SMs are held by another stream's kernel) or
// runs slowly takes fewer.
#pragma once
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/experts/sm90/pipeline.cuh"

namespace smoe::kernels::cuda::sm90 {

/// Builds with SMOE_STATIC_TILES, for comparison: cluster c of C takes tiles c, c + C, c + 2 C, ...
#ifdef SMOE_STATIC_TILES
inline constexpr bool kStaticTiles = true;
#else
inline constexpr bool kStaticTiles = false;
#endif

/// Takes a cluster's first tile number from a counter that is 0 between kernels. What it returns
/// arrives by the time it is used.
template <bool kStatic = kStaticTiles>
__device__ inline int first_tile(int* counter) {
  return kStatic ? cluster_id() : atomicAdd(counter, 1);
}
/// Takes the one after `number`, until one is past the last tile, with which to call finish_tiles.
template <bool kStatic = kStaticTiles>
__device__ inline int next_tile(int* counter, int number) {
  return kStatic ? number + num_clusters() : atomicAdd(counter, 1);
}
/// Each cluster takes one number past the last tile, so the last of these is known, and its taker
/// resets the counter.
template <bool kStatic = kStaticTiles>
__device__ inline void finish_tiles(int* counter, int number, int num_tiles) {
  if (!kStatic && number == num_tiles + num_clusters() - 1) *counter = 0;
}

/// Tiles from one thread of cluster block 0 to the warps of all blocks of the cluster: 16 bytes per
/// tile and block, of which the last number is not negative. Tiles are numbered from 0 in the order
/// in which they are published.
template <int kBlocks>
class TileQueue {
 public:
  static constexpr int kSlots = 2;
  static constexpr int kBytes = kSlots * (16 + 2 * 8);

  /// `memory` holds kBytes, aligned to 16.
  __device__ explicit TileQueue(std::uint32_t memory) : memory_(memory) {}

  /// Called by one thread. `readers` warps of each block read each tile.
  __device__ void init(int readers) const {
    for (int i = 0; i < kSlots; ++i) {
      mbarrier_init(full_barrier(i), 1);
      mbarrier_init(empty_barrier(i), readers * kBlocks);
    }
  }
  __device__ void publish(int i, const int4 (&tiles)[kBlocks]) const {
    const int slot = i % kSlots;
    mbarrier_wait(empty_barrier(slot), phase(i) ^ 1, {"tile slot empty", slot});
    if constexpr (kBlocks == 1) {  // without a cluster there are no remote stores
      store_shared(tile_address(slot), tiles[0]);
      mbarrier_arrive(full_barrier(slot));
    } else {
#pragma unroll
      for (int rank = 0; rank < kBlocks; ++rank) {
        mbarrier_arrive_expect_tx_cluster(full_barrier(slot), rank, 16);
        store_async_cluster(tile_address(slot), full_barrier(slot), rank, tiles[rank]);
      }
    }
  }
  /// Called by all lanes of a reading warp.
  __device__ int4 read(int i) const {
    const int slot = i % kSlots;
    mbarrier_wait_acquire_cluster(full_barrier(slot), phase(i), {"tile slot full", slot});
    const int4 tile = load_shared<int4>(tile_address(slot));
    // The arrival does not wait for this load, which a write of the next tile could overtake. The
    // vote does, in all lanes.
    const bool is_read = __all_sync(~0u, tile.w >= 0);
    if (is_read && threadIdx.x % kWarp == 0) mbarrier_arrive_cluster(empty_barrier(slot), 0);
    return tile;
  }

 private:
  static __device__ std::uint32_t phase(int i) {
    return i / kSlots & 1;
  }
  __device__ std::uint32_t tile_address(int slot) const {
    return memory_ + slot * 16;
  }
  __device__ std::uint32_t full_barrier(int slot) const {
    return memory_ + kSlots * 16 + slot * 8;
  }
  __device__ std::uint32_t empty_barrier(int slot) const {
    return memory_ + kSlots * 24 + slot * 8;
  }

  std::uint32_t memory_;
};

}  // namespace smoe::kernels::cuda::sm90
