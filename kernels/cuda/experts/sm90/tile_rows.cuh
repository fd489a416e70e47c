// The addresses of the rows of a tile's A, from the warp that looks them up to the warps that
// gather them: the ids' latency, their division by K and the products with the row size pass while
// the tile before is gathered.
#pragma once
#include "kernels/cuda/experts/sm90/pipeline.cuh"

namespace smoe::kernels::cuda::sm90 {

/// In shared memory, one tile at a time. Tiles are numbered from 0.
template <int kReaders>
class TileRows {
 public:
  static constexpr int kBytes = kBlockM * 8 + 2 * 8;

  /// `memory` holds kBytes, aligned to 8.
  __device__ explicit TileRows(std::uint32_t memory) : memory_(memory) {}

  /// Called by one thread. kReaders warps read each tile.
  __device__ void init() const {
    mbarrier_init(full_barrier(), 1);
    mbarrier_init(empty_barrier(), kReaders);
  }

  /// Waits until the readers have read the tile before tile i, and so begin to gather it.
  __device__ void wait_until_read_before(int i) const {
    if (i > 0) mbarrier_wait(empty_barrier(), phase(i - 1), {"tile rows empty", 0});
  }
  /// Called by all lanes of one warp after wait_until_read_before: address(j) of row
  /// lane + kWarp j, or null for every row of what follows the last tile.
  template <class F>
  __device__ void publish(F&& address) const {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int j = 0; j < kBlockM / kWarp; ++j) store_shared(of_row(lane + kWarp * j), address(j));
    __syncwarp();
    if (lane == 0) mbarrier_arrive(full_barrier());
  }
  /// Called by all lanes of a reading warp: tile i's rows `row` + kStep j. False after the last
  /// tile.
  template <int kStep, int kRows>
  __device__ bool read(int i, int row, const Bf16* (&rows)[kRows]) const {
    mbarrier_wait(full_barrier(), phase(i), {"tile rows full", 0});
    bool is_end = false;
#pragma unroll
    for (int j = 0; j < kRows; ++j) {
      rows[j] = static_cast<const Bf16*>(load_shared_pointer(of_row(row + kStep * j)));
      is_end |= rows[j] == nullptr;
    }
    if (__any_sync(~0u, is_end)) return false;  // waits for the loads, as in TileQueue::read
    if (threadIdx.x % kWarp == 0) mbarrier_arrive(empty_barrier());
    return true;
  }

 private:
  static __device__ std::uint32_t phase(int i) {
    return i & 1;
  }
  __device__ std::uint32_t of_row(int row) const {
    return memory_ + row * 8;
  }
  __device__ std::uint32_t full_barrier() const {
    return memory_ + kBlockM * 8;
  }
  __device__ std::uint32_t empty_barrier() const {
    return memory_ + kBlockM * 8 + 8;
  }

  std::uint32_t memory_;
};

}  // namespace smoe::kernels::cuda::sm90
