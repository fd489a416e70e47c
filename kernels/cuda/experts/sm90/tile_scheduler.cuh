// Tile scheduler of GEMMs of routed rows. A cluster of two blocks takes two vertically adjacent
// tiles of one expert, so that its blocks multicast the weight tile to each other. For the odd last
// row tile of an expert it takes two horizontally adjacent tiles instead: no expert is padded to
// 256 rows.
#pragma once
#include "kernels/cuda/device/tile_order.cuh"
#include "kernels/cuda/experts/sm90/tile_queue.cuh"

namespace smoe::kernels::cuda::sm90 {

/// One block's output tile.
struct TileCoord {
  int expert;
  /// Grouped rows: the tile's first row, -1 after the last tile, and the end of the expert's rows.
  int row, row_end;
  int col_tile;       ///< at least col_tiles if only the cluster's other block has a tile
  bool is_multicast;  ///< the cluster's other block has the same columns of the weight

  __device__ bool is_end() const { return row < 0; }
};

/// As they travel through a TileQueue.
__device__ inline int4 pack_tile(const TileCoord& tile) {
  return {tile.expert, tile.row, tile.row_end, tile.col_tile * 2 + tile.is_multicast};
}
__device__ inline TileCoord unpack_tile(const int4& tile) {
  return {tile.x, tile.y, tile.z, tile.w >> 1, (tile.w & 1) != 0};
}

/// What the scheduler needs of a kernel's arguments.
struct ScheduleArgs {
  int* tile_counter;
  const std::int32_t* expert_offsets;
  int num_experts, col_tiles;
};

/// Publishes the tiles of a cluster of kBlocks blocks. All functions are called by all lanes of one
/// warp of cluster block 0.
template <int kBlocks>
class RowTileScheduler {
 public:
  /// `args` must be a part of a kernel parameter; lane 0 has taken `first_number`.
  __device__ RowTileScheduler(const ScheduleArgs& args, const TileQueue<kBlocks>& queue,
                              int first_number)
      : args_(args), queue_(queue), number_(first_number) {}

  /// Publishes tile i of the queue, or the end, which may be published more than once.
  __device__ void publish(int i) {
    int4 tiles[kBlocks];
    const int number = __shfl_sync(~0u, number_, 0);
    const bool is_found = find(number, tiles);
    if (threadIdx.x % kWarp > 0) return;
    queue_.publish(i, tiles);
    if (is_found)
      number_ = take_tile(args_.tile_counter);
    else
      finish_tiles(args_.tile_counter, number, tiles_before_);
  }

 private:
  // Cluster tiles of an expert.
  __device__ int cluster_tiles(int num_rows) const {
    const int row_tiles = (num_rows + kBlockM - 1) / kBlockM;
    if constexpr (kBlocks == 1) return row_tiles * args_.col_tiles;
    return row_tiles / 2 * args_.col_tiles + row_tiles % 2 * ((args_.col_tiles + 1) / 2);
  }

  // The blocks' tiles of cluster tile `number`. The numbers grow from call to call, so the search
  // begins at the 32 experts of the previous one. False, and ends, after the last tile.
  __device__ bool find(int number, int4 (&tiles)[kBlocks]) {
    for (; first_expert_ < args_.num_experts; first_expert_ += kWarp) {
      const int lane = threadIdx.x % kWarp, expert = first_expert_ + lane;
      const bool exists = expert < args_.num_experts;
      const int begin = exists ? __ldg(args_.expert_offsets + expert) : 0;
      const int end = exists ? __ldg(args_.expert_offsets + expert + 1) : 0;
      const int own = cluster_tiles(end - begin);
      int to = own;  // up to and with the lane's expert
#pragma unroll
      for (int distance = 1; distance < kWarp; distance *= 2) {
        const int more = __shfl_up_sync(~0u, to, distance);
        if (lane >= distance) to += more;
      }
      const unsigned after = __ballot_sync(~0u, tiles_before_ + to > number);
      if (after != 0) {
        const int found = __ffs(static_cast<int>(after)) - 1;
        place(first_expert_ + found, __shfl_sync(~0u, begin, found), __shfl_sync(~0u, end, found),
              number - tiles_before_ - __shfl_sync(~0u, to - own, found), tiles);
        return true;
      }
      tiles_before_ += __shfl_sync(~0u, to, kWarp - 1);
    }
    for (int4& tile : tiles) tile = {0, -1, 0, 0};
    return false;
  }

  __device__ void place(int expert, int begin, int end, int in_expert,
                        int4 (&tiles)[kBlocks]) const {
    constexpr int kBand = 16 / kBlocks;  // of row tiles of a cluster
    const int row_tiles = (end - begin + kBlockM - 1) / kBlockM, groups = row_tiles / kBlocks;
    const bool is_full = in_expert < groups * args_.col_tiles;
    const TileOrder<kBand> at(is_full ? in_expert : 0, max(groups, 1), args_.col_tiles);
#pragma unroll
    for (int rank = 0; rank < kBlocks; ++rank) {
      const int row_tile = is_full ? kBlocks * at.row + rank : row_tiles - 1;
      const int col_tile =
          is_full ? at.col : kBlocks * (in_expert - groups * args_.col_tiles) + rank;
      tiles[rank] =
          pack_tile({expert, begin + row_tile * kBlockM, end, col_tile, kBlocks > 1 && is_full});
    }
  }

  const ScheduleArgs& args_;
  TileQueue<kBlocks> queue_;
  int number_;
  int first_expert_ = 0;  // of the 32 in which the last search ended
  int tiles_before_ = 0;  // of the experts before it
};

}  // namespace smoe::kernels::cuda::sm90
