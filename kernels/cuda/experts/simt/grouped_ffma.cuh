// The SIMT form of the grouped GEMMs, for f32 and for sizes that tensor cores cannot take: f32 FFMA
// (never TF32) on elements of any alignment. Tiles of 128 x 128 x 8, 256 threads with 8 x 8
// accumulators each, two blocks per SM, persistent.
#pragma once
#include <algorithm>

#include "kernels/cuda/device/row_index.cuh"
#include "kernels/cuda/device/tile_scheduler.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/experts/choose.h"
#include "kernels/cuda/experts/forms.h"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda::simt {

constexpr int kTile = kSimtTile.m;
constexpr int kBlockK = kSimtTile.k;
constexpr int kThreads = 256;
constexpr int kBlocksPerSm = 2;
/// Elements of an operand tile that a thread loads per k tile.
constexpr int kLoads = kTile * kBlockK / kThreads;
/// An operand tile in shared memory: padded against bank conflicts.
using SharedTile = float[kBlockK][kTile + 4];

/// K-major operands: thread t loads element t % 8 of rows t / 8 + 32 i.
struct KMajorLoad {
  int k = threadIdx.x % kBlockK;
  int row = threadIdx.x / kBlockK;
  __device__ int row_of(int i) const { return row + i * (kThreads / kBlockK); }
};
/// MN-major operands: thread t loads column t % 128 of k = t / 128 + 2 i.
struct MnMajorLoad {
  int col = threadIdx.x % kTile;
  static __device__ int k_of(int i) { return threadIdx.x / kTile + i * (kThreads / kTile); }
};

/// Routed rows as the left operand.
template <class T>
class RoutedRowsOperand {
 public:
  struct Args {
    const T* data;
    std::uint32_t row_bytes;
    RowIndex index;
  };
  __device__ explicit RoutedRowsOperand(const Args& args) : args_(args) {}

  __device__ void begin_tile(const TileCoord& tile) {
    k_end_ = tile.k_end;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int m = tile.m_begin + thread_.row_of(i);
      row_[i] = m < tile.m_end ? args_.index(m) : -1;
    }
  }
  __device__ float load(int i, int k) const {
    k += thread_.k;
    return row_[i] >= 0 && k < k_end_
               ? to_f32(*advance_rows(args_.data + k, row_[i], args_.row_bytes))
               : 0.0f;
  }
  __device__ float& target(int i, SharedTile& tile) const {
    return tile[thread_.k][thread_.row_of(i)];
  }

 private:
  const Args& args_;
  KMajorLoad thread_;
  std::int32_t row_[kLoads];
  int k_end_ = 0;
};

/// Rows n of an expert's weight [cols, k]. With kHalves the second half of a tile are the rows that
/// lie `cols` below those of the first: up rows beside their GLU rows.
template <class T, bool kHalves = false>
class WeightRowsOperand {
 public:
  struct Args {
    const T* data;
    std::int64_t expert_stride;  // in elements
    std::uint32_t row_bytes;
    int cols;  // of one half if kHalves
  };
  __device__ explicit WeightRowsOperand(const Args& args) : args_(args) {}

  __device__ void begin_tile(const TileCoord& tile) {
    k_end_ = tile.k_end;
    n_ = tile.n_begin;
    weight_ = args_.data + tile.expert * args_.expert_stride;
  }
  __device__ float load(int i, int k) const {
    constexpr int kHalf = kHalves ? kTile / 2 : kTile;
    k += thread_.k;
    const int row = thread_.row_of(i);
    const int n = n_ + row % kHalf;
    if (n >= args_.cols || k >= k_end_) return 0.0f;
    return to_f32(*advance_rows(weight_ + k, n + row / kHalf * args_.cols, args_.row_bytes));
  }
  __device__ float& target(int i, SharedTile& tile) const {
    return tile[thread_.k][thread_.row_of(i)];
  }

 private:
  const Args& args_;
  KMajorLoad thread_;
  const T* weight_ = nullptr;
  int n_ = 0, k_end_ = 0;
};

/// Columns n of an expert's weight [k, cols]: the transposed weight.
template <class T>
class WeightColumnsOperand {
 public:
  struct Args {
    const T* data;
    std::int64_t expert_stride;  // in elements
    std::uint32_t row_bytes;
    int cols;
  };
  __device__ explicit WeightColumnsOperand(const Args& args) : args_(args) {}

  __device__ void begin_tile(const TileCoord& tile) {
    const int col = tile.n_begin + thread_.col;
    k_end_ = col < args_.cols ? tile.k_end : 0;
    source_ = args_.data + tile.expert * args_.expert_stride + col;
  }
  __device__ float load(int i, int k) const {
    k += MnMajorLoad::k_of(i);
    return k < k_end_ ? to_f32(*advance_rows(source_, k, args_.row_bytes)) : 0.0f;
  }
  __device__ float& target(int i, SharedTile& tile) const {
    return tile[MnMajorLoad::k_of(i)][thread_.col];
  }

 private:
  const Args& args_;
  MnMajorLoad thread_;
  const T* source_ = nullptr;
  int k_end_ = 0;
};

/// Columns of routed rows, reduced over the rows: from m_begin on if kIsLeft, else from n_begin on.
template <class T, bool kIsLeft>
class RoutedColumnsOperand {
 public:
  struct Args {
    const T* data;
    std::uint32_t row_bytes;
    int cols;
    RowIndex index;
  };
  __device__ explicit RoutedColumnsOperand(const Args& args) : args_(args) {}

  __device__ void begin_tile(const TileCoord& tile) {
    const int col = (kIsLeft ? tile.m_begin : tile.n_begin) + thread_.col;
    k_end_ = col < args_.cols ? tile.k_end : 0;
    source_ = args_.data + col;
  }
  __device__ float load(int i, int k) const {
    k += MnMajorLoad::k_of(i);
    return k < k_end_ ? to_f32(*advance_rows(source_, args_.index(k), args_.row_bytes)) : 0.0f;
  }
  __device__ float& target(int i, SharedTile& tile) const {
    return tile[MnMajorLoad::k_of(i)][thread_.col];
  }

 private:
  const Args& args_;
  MnMajorLoad thread_;
  const T* source_ = nullptr;
  int k_end_ = 0;
};

/// Column of accumulator j of a thread whose first one is at column n.
__device__ constexpr int column_of(int n, int j) {
  return n + j % 4 + j / 4 * (kTile / 2);
}

/// Epilogue::run is called per row of which a thread has accumulators, with the row m, the column n
/// of its first four, and eight accumulators: four from n on and four from n + 64 on, which with
/// kHalves are those of the same columns in the second half.
template <class Scheduler_, class Left_, class Right_, class Epilogue_, bool kHalves = false>
struct GroupedGemm {
  using Scheduler = Scheduler_;
  using Left = Left_;
  using Right = Right_;
  using Epilogue = Epilogue_;
  static constexpr int kTileCols = kHalves ? kTile / 2 : kTile;

  struct Args {
    typename Scheduler::Args scheduler;
    typename Left::Args left;
    typename Right::Args right;
    typename Epilogue::Args epilogue;
  };
};

/// The kernel's body; `args` must be a __grid_constant__ parameter.
template <class P>
__device__ __forceinline__ void run_grouped_gemm(const typename P::Args& args) {
  __shared__ __align__(16) SharedTile left, right;
  const int n_lane = threadIdx.x % 16 * 4, m_lane = threadIdx.x / 16 * 4;
  typename P::Left a(args.left);
  typename P::Right b(args.right);

  typename P::Scheduler scheduler(args.scheduler, kTile, P::kTileCols);
  for (TileCoord tile; scheduler.next(tile);) {
    float acc[8][8] = {};
    float next_a[kLoads], next_b[kLoads];
    const auto load = [&](int k) {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        next_a[i] = a.load(i, k);
        next_b[i] = b.load(i, k);
      }
    };
    a.begin_tile(tile);
    b.begin_tile(tile);
    load(tile.k_begin);
    for (int k = tile.k_begin; k < tile.k_end; k += kBlockK) {
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        a.target(i, left) = next_a[i];
        b.target(i, right) = next_b[i];
      }
      __syncthreads();
      if (k + kBlockK < tile.k_end) load(k + kBlockK);
#pragma unroll
      for (int kk = 0; kk < kBlockK; ++kk) {
        float x[8], y[8];
        *reinterpret_cast<float4*>(x) = *reinterpret_cast<const float4*>(&left[kk][m_lane]);
        *reinterpret_cast<float4*>(x + 4) =
            *reinterpret_cast<const float4*>(&left[kk][m_lane + 64]);
        *reinterpret_cast<float4*>(y) = *reinterpret_cast<const float4*>(&right[kk][n_lane]);
        *reinterpret_cast<float4*>(y + 4) =
            *reinterpret_cast<const float4*>(&right[kk][n_lane + 64]);
#pragma unroll
        for (int i = 0; i < 8; ++i)
#pragma unroll
          for (int j = 0; j < 8; ++j) acc[i][j] = fmaf(x[i], y[j], acc[i][j]);
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int m = tile.m_begin + m_lane + i % 4 + i / 4 * 64;
      if (m < tile.m_end) P::Epilogue::run(args.epilogue, tile, m, tile.n_begin + n_lane, acc[i]);
    }
  }
}

/// Launches as many persistent blocks as are resident at a time.
template <class Args>
void launch_persistent(const Launch& launch, const char* op, const ExpertGemmConfig& config,
                       void (*kernel)(Args), const Args& args) {
  if (config.max_tiles == 0) return;
  const std::int64_t resident = device_limits(launch).num_sms * kBlocksPerSm;
  kernel<<<static_cast<unsigned>(std::min(config.max_tiles, resident)), kThreads, 0,
           stream_of(launch)>>>(args);
  check_launch(op);
}

}  // namespace smoe::kernels::cuda::simt
