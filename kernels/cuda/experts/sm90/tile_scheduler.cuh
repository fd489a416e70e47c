// Tile scheduler of GEMMs of routed rows. A cluster of two blocks takes two vertically adjacent
// tiles of one expert, so that its blocks multicast the weight tile to each other. For the odd last
// row tile of an expert it takes two horizontally adjacent tiles instead: no expert is padded to
// 256 rows.
#pragma once
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

/// n / d for 0 <= n < 2^24 and 0 < d < 2^24, in fewer instructions than an integer division.
__device__ inline int quotient(int n, int d) {
  int q = static_cast<int>(__fdividef(static_cast<float>(n), static_cast<float>(d)));
  const int rest = n - q * d;
  q -= rest < 0;
  q += rest >= d;
  return q;
}

/// What the scheduler needs of a kernel's arguments.
struct ScheduleArgs {
  int* tile_counter;
  const std::int32_t* expert_offsets;  ///< null: one expert of num_rows rows
  int num_experts, col_tiles;
  int num_rows = 0;
  bool overlaps_preceding = false;  ///< of GroupedGemmArgs
};

/// The 32 experts in which a scheduler searches, one per lane of its warp, in shared memory for
/// want of registers: their rows, and the cluster tiles up to the end of each.
struct SearchedExperts {
  int begin[kWarp], end[kWarp], tiles_to[kWarp];
};

/// Publishes the tiles of a cluster of kBlocks blocks. All functions are called by all lanes of one
/// warp of cluster block 0.
template <int kBlocks>
class RowTileScheduler {
 public:
  /// `args` must be a part of a kernel parameter; lane 0 has taken `first_number`.
  __device__ RowTileScheduler(const ScheduleArgs& args, const TileQueue<kBlocks>& queue,
                              SearchedExperts& experts, int first_number)
      : args_(args), queue_(queue), experts_(experts), number_(first_number) {}

  /// Called before the first publish.
  __device__ void begin() { load(0); }

  /// Publishes tile i of the queue, or the end, which may be published more than once. False after
  /// the end.
  __device__ bool publish(int i) {
    int4 tiles[kBlocks];
    const int number = __shfl_sync(~0u, number_, 0);
    const bool is_found = find(number, tiles);
    if (threadIdx.x % kWarp == 0) {
      queue_.publish(i, tiles);
      if (is_found)
        number_ = next_tile(args_.tile_counter, number_);
      else
        finish_tiles(args_.tile_counter, number, tiles_before_);
    }
    return is_found;
  }

 private:
  // The blocks' tiles of cluster tile `number`. The numbers grow from call to call, so the search
  // begins at the 32 experts of the previous one, a lane each. False, and ends, after the last
  // tile.
  __device__ bool find(int number, int4 (&tiles)[kBlocks]) {
    for (; first_expert_ < args_.num_experts; load(first_expert_ + kWarp)) {
      const int lane = threadIdx.x % kWarp, tiles_to = experts_.tiles_to[lane];
      const unsigned after = __ballot_sync(~0u, tiles_to > number - tiles_before_);
      if (after != 0) {
        const int found = __ffs(static_cast<int>(after)) - 1;
        const int begin = __shfl_sync(~0u, experts_.begin[lane], found);
        const int end = __shfl_sync(~0u, experts_.end[lane], found);
        const int to = __shfl_sync(~0u, tiles_to, found);
        const int in_expert = number - tiles_before_ - (to - cluster_tiles(end - begin));
        place(first_expert_ + found, begin, end, in_expert, tiles);
        return true;
      }
      tiles_before_ += __shfl_sync(~0u, tiles_to, kWarp - 1);
    }
    for (int4& tile : tiles) tile = {0, -1, 0, 0};
    return false;
  }

  // A lane's expert of the 32 from first_expert on.
  __device__ void load(int first_expert) {
    first_expert_ = first_expert;
    const int lane = threadIdx.x % kWarp, expert = first_expert + lane;
    const bool exists = expert < args_.num_experts;
    const int begin = exists ? offset_of(expert) : 0;
    const int end = exists ? offset_of(expert + 1) : 0;
    int tiles_to = cluster_tiles(end - begin);
#pragma unroll
    for (int distance = 1; distance < kWarp; distance *= 2) {
      const int more = __shfl_up_sync(~0u, tiles_to, distance);
      if (lane >= distance) tiles_to += more;
    }
    experts_.begin[lane] = begin;
    experts_.end[lane] = end;
    experts_.tiles_to[lane] = tiles_to;
  }

  __device__ int offset_of(int expert) const {
    return args_.expert_offsets ? __ldg(args_.expert_offsets + expert) : expert * args_.num_rows;
  }

  // Of an expert.
  __device__ int cluster_tiles(int num_rows) const {
    const int row_tiles = (num_rows + kBlockM - 1) / kBlockM;
    if constexpr (kBlocks == 1) return row_tiles * args_.col_tiles;
    return row_tiles / 2 * args_.col_tiles + row_tiles % 2 * ((args_.col_tiles + 1) / 2);
  }

  __device__ void place(int expert, int begin, int end, int in_expert,
                        int4 (&tiles)[kBlocks]) const {
    constexpr int kBand = 16 / kBlocks;  // of row tiles of a cluster
    const int row_tiles = (end - begin + kBlockM - 1) / kBlockM, groups = row_tiles / kBlocks;
    const bool is_full = in_expert < groups * args_.col_tiles;
    const int band = quotient(in_expert, kBand * args_.col_tiles);
    const int in_band = in_expert - band * kBand * args_.col_tiles;
    const int height = max(min(kBand, groups - band * kBand), 1);
    const int col = quotient(in_band, height), row = band * kBand + in_band - col * height;
#pragma unroll
    for (int rank = 0; rank < kBlocks; ++rank) {
      const int row_tile = is_full ? kBlocks * row + rank : row_tiles - 1;
      const int col_tile = is_full ? col : kBlocks * (in_expert - groups * args_.col_tiles) + rank;
      tiles[rank] =
          pack_tile({expert, begin + row_tile * kBlockM, end, col_tile, kBlocks > 1 && is_full});
    }
  }

  const ScheduleArgs& args_;
  TileQueue<kBlocks> queue_;
  SearchedExperts& experts_;
  int number_;
  int first_expert_ = 0;  // of the 32 searched last
  int tiles_before_ = 0;  // of the experts before it
};

}  // namespace smoe::kernels::cuda::sm90
