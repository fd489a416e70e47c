// Rasterization order of output tiles.
#pragma once

namespace smoe::kernels::cuda {

/// Position of tile number `tile` among rows x cols tiles: bands of kBand rows, each traversed
/// column by column, so that tiles that run concurrently share rows and columns in L2.
template <int kBand>
struct TileOrder {
  int row, col;

  __device__ TileOrder(int tile, int rows, int cols) {
    const int band = tile / (kBand * cols);
    const int in_band = tile - band * kBand * cols;
    const int height = min(kBand, rows - band * kBand);
    col = in_band / height;
    row = band * kBand + in_band - col * height;
  }
};

}  // namespace smoe::kernels::cuda
