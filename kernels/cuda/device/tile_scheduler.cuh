// Static persistent tile schedulers of the portable grouped GEMMs (simt, sm80). Block b of B
// computes tiles b, b + B, ...; the expert of a tile is found on the device by a forward scan of
// expert_offsets. Experts without rows have no tiles.
#pragma once
#include <cstdint>

#include "kernels/cuda/device/tile_order.cuh"

namespace smoe::kernels::cuda {

constexpr int kPortableBand = 8;

/// One output tile: rows [m_begin, m_end), columns from n_begin on, reduced over [k_begin, k_end),
/// which is not empty.
struct TileCoord {
  int expert;
  int m_begin, m_end;
  int n_begin;
  int k_begin, k_end;

  __device__ int num_k_tiles(int block_k) const {
    return (k_end - k_begin + block_k - 1) / block_k;
  }
  /// Marks the end of the schedule.
  __device__ bool is_end() const { return expert < 0; }
};

/// GEMMs of routed rows with their expert's weight: m are grouped rows, of one expert per tile.
class RoutedTileScheduler {
 public:
  struct Args {
    const std::int32_t* expert_offsets;
    int num_experts;
    int col_tiles;
    int k;  // reduction dimension
  };

  __device__ RoutedTileScheduler(const Args& args, int tile_m, int tile_n)
      : args_(args), tile_m_(tile_m), tile_n_(tile_n), end_(args.expert_offsets[1]) {}

  /// The block's next tile; false after the last one.
  __device__ bool next(TileCoord& coord) {
    for (;;) {
      const int rows = (end_ - begin_ + tile_m_ - 1) / tile_m_;
      const int tiles = rows * args_.col_tiles;
      if (tile_ < first_ + tiles) {
        const TileOrder<kPortableBand> at(tile_ - first_, rows, args_.col_tiles);
        const int m = begin_ + at.row * tile_m_;
        coord = {expert_, m, min(m + tile_m_, end_), at.col * tile_n_, 0, args_.k};
        tile_ += gridDim.x;
        return true;
      }
      if (expert_ + 1 == args_.num_experts) return false;
      first_ += tiles;
      ++expert_;
      begin_ = end_;
      end_ = __ldg(args_.expert_offsets + expert_ + 1);
    }
  }

 private:
  const Args& args_;
  int tile_m_, tile_n_;
  int tile_ = blockIdx.x;
  int expert_ = 0, first_ = 0, begin_ = 0, end_;
};

/// Weight gradients: m and n are columns of two arrays of routed rows, k the rows of one expert.
class WeightGradientTileScheduler {
 public:
  struct Args {
    const std::int32_t* expert_offsets;
    int num_experts;
    int row_tiles, col_tiles;  // of one expert's matrix
    int rows;
  };

  __device__ WeightGradientTileScheduler(const Args& args, int tile_m, int tile_n)
      : args_(args), tile_m_(tile_m), tile_n_(tile_n) {}

  __device__ bool next(TileCoord& coord) {
    const int tiles = args_.row_tiles * args_.col_tiles;
    for (;; tile_ += gridDim.x) {
      const int expert = tile_ / tiles;
      if (expert >= args_.num_experts) return false;
      const int k_begin = __ldg(args_.expert_offsets + expert);
      const int k_end = __ldg(args_.expert_offsets + expert + 1);
      if (k_begin == k_end) continue;
      const TileOrder<kPortableBand> at(tile_ - expert * tiles, args_.row_tiles, args_.col_tiles);
      const int m = at.row * tile_m_;
      coord = {expert, m, min(m + tile_m_, args_.rows), at.col * tile_n_, k_begin, k_end};
      tile_ += gridDim.x;
      return true;
    }
  }

 private:
  const Args& args_;
  int tile_m_, tile_n_;
  int tile_ = blockIdx.x;
};

}  // namespace smoe::kernels::cuda
