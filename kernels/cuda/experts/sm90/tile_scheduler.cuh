// Static persistent tile scheduler of GEMMs of routed rows, for clusters of two blocks. A cluster
// takes two vertically adjacent tiles of one expert, so that its blocks multicast the weight tile
// to each other. For the odd last row tile of an expert it takes two horizontally adjacent tiles
// instead: no expert is padded to 256 rows.
#pragma once
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/tile_order.cuh"
#include "kernels/cuda/experts/sm90/pipeline.cuh"

namespace smoe::kernels::cuda::sm90 {

/// Prefix sums over experts, with the totals at the end: rows, row tiles, and cluster tiles (what a
/// cluster takes at a time). In shared memory.
struct ExpertTileOffsets {
  int rows[kSm90MaxExperts + 1];
  int row_tiles[kSm90MaxExperts + 1];
  int cluster_tiles[kSm90MaxExperts + 1];

  /// Called by one warp.
  template <int kBlocks = kClusterSize>
  __device__ void build(const std::int32_t* expert_offsets, int num_experts, int col_tiles) {
    const int lane = threadIdx.x % kWarp;
    int tiles_before = 0, cluster_tiles_before = 0;
    for (int first = 0; first < num_experts; first += kWarp) {
      const int expert = first + lane;
      const bool exists = expert < num_experts;
      const int begin = exists ? expert_offsets[expert] : 0;
      const int count = exists ? expert_offsets[expert + 1] - begin : 0;
      const int own_tiles = (count + kBlockM - 1) / kBlockM;
      const int own_cluster_tiles =
          kBlocks == 1 ? own_tiles * col_tiles
                       : own_tiles / 2 * col_tiles + own_tiles % 2 * ((col_tiles + 1) / 2);
      int tiles_to = own_tiles, cluster_tiles_to = own_cluster_tiles;
#pragma unroll
      for (int distance = 1; distance < kWarp; distance *= 2) {
        const int more_tiles = __shfl_up_sync(~0u, tiles_to, distance);
        const int more_cluster_tiles = __shfl_up_sync(~0u, cluster_tiles_to, distance);
        if (lane >= distance) {
          tiles_to += more_tiles;
          cluster_tiles_to += more_cluster_tiles;
        }
      }
      if (exists) {
        rows[expert] = begin;
        row_tiles[expert] = tiles_before + tiles_to - own_tiles;
        cluster_tiles[expert] = cluster_tiles_before + cluster_tiles_to - own_cluster_tiles;
      }
      tiles_before += __shfl_sync(~0u, tiles_to, kWarp - 1);
      cluster_tiles_before += __shfl_sync(~0u, cluster_tiles_to, kWarp - 1);
    }
    if (lane > 0) return;
    rows[num_experts] = expert_offsets[num_experts];
    row_tiles[num_experts] = tiles_before;
    cluster_tiles[num_experts] = cluster_tiles_before;
  }
};

/// One block's output tile.
struct TileCoord {
  int expert;
  int row, row_end;   ///< grouped rows: the tile's first row, and the end of the expert's rows
  int col_tile;       ///< at least col_tiles if only the cluster's other block has a tile
  bool is_multicast;  ///< the cluster's other block has the same columns of the weight
};

class TileScheduler {
 public:
  __device__ TileScheduler(const ExpertTileOffsets& offsets, int num_experts, int col_tiles)
      : offsets_(offsets),
        num_experts_(num_experts),
        col_tiles_(col_tiles),
        rank_(cluster_rank()),
        cluster_tile_(static_cast<int>(blockIdx.x) / kClusterSize) {}

  /// The block's next tile; false after the last one.
  __device__ bool next(TileCoord& tile) {
    while (expert_ < num_experts_ && cluster_tile_ >= offsets_.cluster_tiles[expert_ + 1])
      ++expert_;
    if (expert_ >= num_experts_) return false;
    constexpr int kBand = 8;  // of row tile pairs
    const int in_expert = cluster_tile_ - offsets_.cluster_tiles[expert_];
    const int row_tiles = offsets_.row_tiles[expert_ + 1] - offsets_.row_tiles[expert_];
    const int pairs = row_tiles / 2;
    int row_tile = row_tiles - 1;
    tile.expert = expert_;
    tile.is_multicast = in_expert < pairs * col_tiles_;
    if (tile.is_multicast) {
      const TileOrder<kBand> at(in_expert, pairs, col_tiles_);
      tile.col_tile = at.col;
      row_tile = 2 * at.row + rank_;
    } else {
      tile.col_tile = 2 * (in_expert - pairs * col_tiles_) + rank_;
    }
    tile.row = offsets_.rows[expert_] + row_tile * kBlockM;
    tile.row_end = offsets_.rows[expert_ + 1];
    cluster_tile_ += static_cast<int>(gridDim.x) / kClusterSize;
    return true;
  }

 private:
  const ExpertTileOffsets& offsets_;
  int num_experts_, col_tiles_, rank_;
  int cluster_tile_, expert_ = 0;
};

/// Without clusters: every `step`th of the block's tiles from number `first` on.
class SingleTileScheduler {
 public:
  __device__ SingleTileScheduler(const ExpertTileOffsets& offsets, int num_experts, int col_tiles,
                                 int first, int step)
      : offsets_(offsets),
        num_experts_(num_experts),
        col_tiles_(col_tiles),
        step_(step * static_cast<int>(gridDim.x)),
        tile_(static_cast<int>(blockIdx.x + first * gridDim.x)) {}

  /// False after the last tile.
  __device__ bool next(TileCoord& tile) {
    while (expert_ < num_experts_ && tile_ >= offsets_.cluster_tiles[expert_ + 1]) ++expert_;
    if (expert_ >= num_experts_) return false;
    constexpr int kBand = 16;  // of row tiles
    const TileOrder<kBand> at(tile_ - offsets_.cluster_tiles[expert_],
                              offsets_.row_tiles[expert_ + 1] - offsets_.row_tiles[expert_],
                              col_tiles_);
    tile = {expert_, offsets_.rows[expert_] + at.row * kBlockM, offsets_.rows[expert_ + 1], at.col,
            false};
    tile_ += step_;
    return true;
  }

 private:
  const ExpertTileOffsets& offsets_;
  int num_experts_, col_tiles_, step_;
  int tile_, expert_ = 0;
};

}  // namespace smoe::kernels::cuda::sm90
