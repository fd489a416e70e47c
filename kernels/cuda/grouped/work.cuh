// The tiles of a grouped product and the order in which thread blocks take them. Block b of B takes
// tiles b, b + B, ...; which expert a tile belongs to is found from expert_offsets on the device,
// by a scan that only moves forward. Experts without rows have no tiles.
#pragma once
#include <cstdint>

namespace smoe::kernels::cuda {

/// One output tile: rows [m_begin, m_end) and columns from n_begin on, summed over
/// [k_begin, k_end), at least one.
struct Work {
  int expert;
  int m_begin, m_end;
  int n_begin;
  int k_begin, k_end;

  __device__ int steps(int depth) const { return (k_end - k_begin + depth - 1) / depth; }
  /// Stands for "no more".
  __device__ bool is_end() const { return expert < 0; }
};

/// Position of a tile among rows x cols tiles, taken in bands of kBand rows, down each column of a
/// band: tiles that run at the same time share rows and columns in the second-level cache.
struct TilePosition {
  int row, col;

  __device__ TilePosition(int tile, int rows, int cols) {
    constexpr int kBand = 8;
    const int band = tile / (kBand * cols);
    const int in_band = tile - band * kBand * cols;
    const int height = min(kBand, rows - band * kBand);
    col = in_band / height;
    row = band * kBand + in_band - col * height;
  }
};

/// Products of routed rows with their expert's weights: m are grouped rows, of one expert a tile.
class RowWalk {
 public:
  struct Args {
    const std::int32_t* expert_offsets;
    int num_experts;
    int col_tiles;
    int depth;  // of the sum
  };

  __device__ RowWalk(const Args& args, int tile_m, int tile_n)
      : args_(args), tile_m_(tile_m), tile_n_(tile_n), end_(args.expert_offsets[1]) {}

  /// The block's next tile; false after the last.
  __device__ bool next(Work& work) {
    for (;;) {
      const int rows = (end_ - begin_ + tile_m_ - 1) / tile_m_;
      const int tiles = rows * args_.col_tiles;
      if (tile_ < first_ + tiles) {
        const TilePosition at(tile_ - first_, rows, args_.col_tiles);
        const int m = begin_ + at.row * tile_m_;
        work = {expert_, m, min(m + tile_m_, end_), at.col * tile_n_, 0, args_.depth};
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

/// Weight gradients: m and n are the columns of two arrays of routed rows, summed over an expert's
/// rows.
class GradientWalk {
 public:
  struct Args {
    const std::int32_t* expert_offsets;
    int num_experts;
    int row_tiles, col_tiles;  // of one expert's matrix
    int rows;
  };

  __device__ GradientWalk(const Args& args, int tile_m, int tile_n)
      : args_(args), tile_m_(tile_m), tile_n_(tile_n) {}

  __device__ bool next(Work& work) {
    const int tiles = args_.row_tiles * args_.col_tiles;
    for (;; tile_ += gridDim.x) {
      const int expert = tile_ / tiles;
      if (expert >= args_.num_experts) return false;
      const int k_begin = __ldg(args_.expert_offsets + expert);
      const int k_end = __ldg(args_.expert_offsets + expert + 1);
      if (k_begin == k_end) continue;
      const TilePosition at(tile_ - expert * tiles, args_.row_tiles, args_.col_tiles);
      const int m = at.row * tile_m_;
      work = {expert, m, min(m + tile_m_, args_.rows), at.col * tile_n_, k_begin, k_end};
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
