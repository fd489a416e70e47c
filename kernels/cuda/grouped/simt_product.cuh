// The plain product for f32 and for sizes that tensor cores do not take: fused multiply-adds in
// f32 (never TF32) over elements of any alignment. Tiles of 128 x 128, 8 x 8 sums a thread.
#pragma once
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/grouped/routed_index.cuh"
#include "kernels/cuda/grouped/work.cuh"

namespace smoe::kernels::cuda {

constexpr int kSimtTile = 128;
constexpr int kSimtDepth = 8;
constexpr int kSimtThreads = 256;
/// Elements of a tile's step that a thread loads.
constexpr int kSimtCount = kSimtTile * kSimtDepth / kSimtThreads;

/// An operand whose rows run along the sum: thread t loads element t % 8 of rows t / 8 + 32 i.
/// Rows are routed rows, or those of an expert's weight; kHalves as in WeightRowsOperand.
struct SimtPlace {
  int depth = threadIdx.x % kSimtDepth;
  int row = threadIdx.x / kSimtDepth;
  __device__ int row_of(int i) const { return row + i * (kSimtThreads / kSimtDepth); }
};

template <class T>
class SimtRoutedRows {
 public:
  struct Args {
    const T* data;
    std::uint32_t stride;  // of rows, in bytes
    RowIndex index;
  };
  __device__ explicit SimtRoutedRows(const Args& args) : args_(args) {}

  __device__ void start(const Work& work) {
    k_end_ = work.k_end;
#pragma unroll
    for (int i = 0; i < kSimtCount; ++i) {
      const int m = work.m_begin + place_.row_of(i);
      row_[i] = m < work.m_end ? args_.index(m) : -1;
    }
  }
  __device__ float load(int i, int k) const {
    k += place_.depth;
    return row_[i] >= 0 && k < k_end_ ? to_f32(*advance(args_.data + k, row_[i], args_.stride))
                                      : 0.0f;
  }
  __device__ float& target(int i, float (*tile)[kSimtTile + 4]) const {
    return tile[place_.depth][place_.row_of(i)];
  }

 private:
  const Args& args_;
  SimtPlace place_;
  std::int32_t row_[kSimtCount];
  int k_end_ = 0;
};

template <class T, bool kHalves = false>
class SimtWeightRows {
 public:
  struct Args {
    const T* data;
    std::int64_t expert_stride;  // in elements
    std::uint32_t stride;
    int cols;  // of one half if kHalves
  };
  __device__ explicit SimtWeightRows(const Args& args) : args_(args) {}

  __device__ void start(const Work& work) {
    k_end_ = work.k_end;
    n_ = work.n_begin;
    weight_ = args_.data + work.expert * args_.expert_stride;
  }
  __device__ float load(int i, int k) const {
    constexpr int kHalf = kHalves ? kSimtTile / 2 : kSimtTile;
    k += place_.depth;
    const int row = place_.row_of(i);
    const int n = n_ + row % kHalf;
    if (n >= args_.cols || k >= k_end_) return 0.0f;
    return to_f32(*advance(weight_ + k, n + row / kHalf * args_.cols, args_.stride));
  }
  __device__ float& target(int i, float (*tile)[kSimtTile + 4]) const {
    return tile[place_.depth][place_.row_of(i)];
  }

 private:
  const Args& args_;
  SimtPlace place_;
  const T* weight_ = nullptr;
  int n_ = 0, k_end_ = 0;
};

/// Operands whose rows run along their own size: thread t loads column t % 128 of rows t / 128 +
/// 2 i of the sum.
template <class T>
class SimtWeightCols {
 public:
  struct Args {
    const T* data;
    std::int64_t expert_stride;  // in elements
    std::uint32_t stride;
    int cols;
  };
  __device__ explicit SimtWeightCols(const Args& args) : args_(args) {}

  __device__ void start(const Work& work) {
    const int col = work.n_begin + col_;
    k_end_ = col < args_.cols ? work.k_end : 0;
    source_ = args_.data + work.expert * args_.expert_stride + col;
  }
  __device__ float load(int i, int k) const {
    k += depth_of(i);
    return k < k_end_ ? to_f32(*advance(source_, k, args_.stride)) : 0.0f;
  }
  __device__ float& target(int i, float (*tile)[kSimtTile + 4]) const {
    return tile[depth_of(i)][col_];
  }

 private:
  static __device__ int depth_of(int i) {
    return threadIdx.x / kSimtTile + i * (kSimtThreads / kSimtTile);
  }

  const Args& args_;
  int col_ = threadIdx.x % kSimtTile;
  const T* source_ = nullptr;
  int k_end_ = 0;
};

template <class T, bool kIsLeft>
class SimtRoutedCols {
 public:
  struct Args {
    const T* data;
    std::uint32_t stride;  // of rows, in bytes
    int cols;
    RowIndex index;
  };
  __device__ explicit SimtRoutedCols(const Args& args) : args_(args) {}

  __device__ void start(const Work& work) {
    const int col = (kIsLeft ? work.m_begin : work.n_begin) + col_;
    k_end_ = col < args_.cols ? work.k_end : 0;
    source_ = args_.data + col;
  }
  __device__ float load(int i, int k) const {
    k += depth_of(i);
    return k < k_end_ ? to_f32(*advance(source_, args_.index(k), args_.stride)) : 0.0f;
  }
  __device__ float& target(int i, float (*tile)[kSimtTile + 4]) const {
    return tile[depth_of(i)][col_];
  }

 private:
  static __device__ int depth_of(int i) {
    return threadIdx.x / kSimtTile + i * (kSimtThreads / kSimtTile);
  }

  const Args& args_;
  int col_ = threadIdx.x % kSimtTile;
  const T* source_ = nullptr;
  int k_end_ = 0;
};

/// The epilogue is called for each row a thread has sums of, with the row, the column n of its
/// first four sums, and four more sums: of columns n + 64 on, or of the same in the second half.
template <class Walk_, class Left_, class Right_, class Epilogue_, bool kHalves = false>
struct SimtProduct {
  using Walk = Walk_;
  using Left = Left_;
  using Right = Right_;
  using Epilogue = Epilogue_;
  static constexpr int kTileN = kHalves ? kSimtTile / 2 : kSimtTile;

  struct Args {
    typename Walk::Args walk;
    typename Left::Args left;
    typename Right::Args right;
    typename Epilogue::Args epilogue;
  };
};

template <class P>
__global__ void __launch_bounds__(kSimtThreads, 2)
    simt_product_kernel(const __grid_constant__ typename P::Args args) {
  __shared__ __align__(16) float left[kSimtDepth][kSimtTile + 4];
  __shared__ __align__(16) float right[kSimtDepth][kSimtTile + 4];
  const int n_lane = threadIdx.x % 16 * 4, m_lane = threadIdx.x / 16 * 4;
  typename P::Left a(args.left);
  typename P::Right b(args.right);

  typename P::Walk walk(args.walk, kSimtTile, P::kTileN);
  for (Work work; walk.next(work);) {
    float sums[8][8] = {};
    float next_a[kSimtCount], next_b[kSimtCount];
    const auto load = [&](int k) {
#pragma unroll
      for (int i = 0; i < kSimtCount; ++i) {
        next_a[i] = a.load(i, k);
        next_b[i] = b.load(i, k);
      }
    };
    a.start(work);
    b.start(work);
    load(work.k_begin);
    for (int k = work.k_begin; k < work.k_end; k += kSimtDepth) {
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kSimtCount; ++i) {
        a.target(i, left) = next_a[i];
        b.target(i, right) = next_b[i];
      }
      __syncthreads();
      if (k + kSimtDepth < work.k_end) load(k + kSimtDepth);
#pragma unroll
      for (int kk = 0; kk < kSimtDepth; ++kk) {
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
          for (int j = 0; j < 8; ++j) sums[i][j] = fmaf(x[i], y[j], sums[i][j]);
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int m = work.m_begin + m_lane + i % 4 + i / 4 * 64;
      if (m < work.m_end) P::Epilogue::run(args.epilogue, work, m, work.n_begin + n_lane, sums[i]);
    }
  }
}

}  // namespace smoe::kernels::cuda
