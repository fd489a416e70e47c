// The tiles of a product of routed rows and the order in which clusters take them. A cluster takes
// two neighbouring tiles of an expert's rows at the same columns, whose weights its blocks load for
// each other; of an odd last tile of an expert it takes two neighbouring columns instead, so that
// no expert is rounded up to 256 rows.
#pragma once
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/hopper/pipeline.cuh"

namespace smoe::kernels::cuda::hopper {

/// Of each expert: its first row, and how many row tiles and how many items (what a cluster takes
/// at a time) come before it; one more entry each at the end. In shared memory.
struct ExpertTables {
  int rows[kMaxExperts + 1], tiles[kMaxExperts + 1], items[kMaxExperts + 1];

  /// For a warp.
  __device__ void build(const std::int32_t* expert_offsets, int num_experts, int col_tiles) {
    const int lane = threadIdx.x % kWarp;
    int tiles_before = 0, items_before = 0;
    for (int first = 0; first < num_experts; first += kWarp) {
      const int expert = first + lane;
      const bool exists = expert < num_experts;
      const int begin = exists ? expert_offsets[expert] : 0;
      const int count = exists ? expert_offsets[expert + 1] - begin : 0;
      const int own_tiles = (count + kTileM - 1) / kTileM;
      const int own_items = own_tiles / 2 * col_tiles + own_tiles % 2 * ((col_tiles + 1) / 2);
      int tiles_to = own_tiles, items_to = own_items;
#pragma unroll
      for (int distance = 1; distance < kWarp; distance *= 2) {
        const int more_tiles = __shfl_up_sync(~0u, tiles_to, distance);
        const int more_items = __shfl_up_sync(~0u, items_to, distance);
        if (lane >= distance) {
          tiles_to += more_tiles;
          items_to += more_items;
        }
      }
      if (exists) {
        rows[expert] = begin;
        tiles[expert] = tiles_before + tiles_to - own_tiles;
        items[expert] = items_before + items_to - own_items;
      }
      tiles_before += __shfl_sync(~0u, tiles_to, kWarp - 1);
      items_before += __shfl_sync(~0u, items_to, kWarp - 1);
    }
    if (lane > 0) return;
    rows[num_experts] = expert_offsets[num_experts];
    tiles[num_experts] = tiles_before;
    items[num_experts] = items_before;
  }
};

/// One block's tile of an item.
struct RowTile {
  int expert;
  int row, end;    ///< grouped rows: the tile's first, and where the expert's end
  int col_tile;    ///< none if not below col_tiles: the other block alone has something to do
  bool is_shared;  ///< the other block has the same columns of the weight
};

class PairWalk {
 public:
  __device__ PairWalk(const ExpertTables& tables, int num_experts, int col_tiles)
      : tables_(tables),
        num_experts_(num_experts),
        col_tiles_(col_tiles),
        rank_(cluster_rank()),
        item_(static_cast<int>(blockIdx.x) / kClusterSize) {}

  /// The block's next tile; false after the last.
  __device__ bool next(RowTile& tile) {
    while (expert_ < num_experts_ && item_ >= tables_.items[expert_ + 1]) ++expert_;
    if (expert_ >= num_experts_) return false;
    constexpr int kBand = 8;  // of pairs that share columns in the second-level cache
    const int item = item_ - tables_.items[expert_];
    const int row_tiles = tables_.tiles[expert_ + 1] - tables_.tiles[expert_];
    const int pairs = row_tiles / 2;
    int row_tile = row_tiles - 1;
    tile.expert = expert_;
    tile.is_shared = item < pairs * col_tiles_;
    if (tile.is_shared) {
      const int band = item / (kBand * col_tiles_);
      const int in_band = item - band * kBand * col_tiles_;
      const int height = min(kBand, pairs - band * kBand);
      tile.col_tile = in_band / height;
      row_tile = 2 * (band * kBand + in_band - tile.col_tile * height) + rank_;
    } else {
      tile.col_tile = 2 * (item - pairs * col_tiles_) + rank_;
    }
    tile.row = tables_.rows[expert_] + row_tile * kTileM;
    tile.end = tables_.rows[expert_ + 1];
    item_ += static_cast<int>(gridDim.x) / kClusterSize;
    return true;
  }

 private:
  const ExpertTables& tables_;
  int num_experts_, col_tiles_, rank_;
  int item_, expert_ = 0;
};

}  // namespace smoe::kernels::cuda::hopper
