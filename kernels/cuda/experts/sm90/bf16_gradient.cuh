// Epilogue of a bf16 weight gradient: dW = acc + beta dW in f32, rounded once, for beta 0 or 1.
// A consumer's tile leaves in parts of 64 columns of the gathered operand and 32 of the other one,
// which are rows of 32 columns of dW, or of 64 if it is transposed. With beta 1 a part of dW
// arrives by TMA up to three parts ahead, the first ones during the mainloop; the sum is computed
// in place and stored by TMA, and the slot is loaded again one part later, when the store has read
// it. No other block accesses the tile's elements of dW.
#pragma once
#include "kernels/cuda/experts/sm90/epilogue.cuh"
#include "kernels/cuda/experts/sm90/gradient_tiles.cuh"
#include "kernels/cuda/experts/sm90/launch.cuh"

namespace smoe::kernels::cuda::sm90 {

constexpr int kBf16GradientSlots = 4;
constexpr int kBf16GradientCols = 32;  // of a part

/// `view` of dW [E, D_out, D_in], in boxes of one part.
inline CUtensorMap make_bf16_gradient_map(const char* op, const TensorView& view,
                                          bool is_transposed) {
  if (is_transposed) return make_tensor_map(op, view, {64, kBf16GradientCols, 1});
  return make_tensor_map(op, view, {kBf16GradientCols, 64, 1});
}

template <bool kIsTransposed>
class StoreBf16Gradient {
 public:
  static constexpr int kSlots = kBf16GradientSlots;
  static constexpr int kPartBytes = 64 * kBf16GradientCols * int{sizeof(Bf16)};
  static constexpr int kBytes = kSlots * kPartBytes;
  static constexpr int kParts = kBlockN / kBf16GradientCols;
  static_assert(kParts == 2 * kSlots);  // each barrier completes two phases per tile

  /// `memory` has kBytes, aligned to 1024; `barriers` has kSlots of them.
  __device__ StoreBf16Gradient(const CUtensorMap& dweight, bool accumulates, int consumer,
                               std::uint32_t memory, std::uint32_t barriers)
      : dweight_(dweight),
        accumulates_(accumulates),
        consumer_(consumer),
        memory_(memory),
        barriers_(barriers) {}

  __device__ void prefetch(const GradientTile& tile) const {
    if (!accumulates_ || threadIdx.x % kWarpgroup > 0) return;
    tma_store_wait_read<0>();  // of the previous tile
    for (int i = 0; i < kSlots; ++i) load(tile, i);
  }

  __device__ void store(const GradientTile& tile, const Accumulators& acc) const {
    const bool is_first = threadIdx.x % kWarpgroup == 0;
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      if (accumulates_) mbarrier_wait(barrier(i), i / kSlots, {"dW full", i % kSlots});
      add(i, acc);
      fence_proxy_async();
      warpgroup_sync(consumer_);
      if (!is_first) continue;
      tma_store(dweight_, slot(i), place(tile, i));
      tma_store_commit();
      tma_store_wait_read<1>();
      const int next = i - 1 + kSlots;
      if (accumulates_ && i > 0 && next < kParts) load(tile, next);
    }
  }
  __device__ void finish() const {
    if (threadIdx.x % kWarpgroup == 0) tma_store_wait();
  }

 private:
  __device__ std::uint32_t slot(int i) const {
    return memory_ + i % kSlots * kPartBytes;
  }
  __device__ std::uint32_t barrier(int i) const {
    return barriers_ + i % kSlots * 8;
  }

  /// Called by the first thread of the warpgroup.
  __device__ void load(const GradientTile& tile, int i) const {
    mbarrier_arrive_expect_tx(barrier(i), kPartBytes);
    tma_load(slot(i), dweight_, barrier(i), place(tile, i));
  }

  /// Where part i is in dW.
  __device__ TmaCoord place(const GradientTile& tile, int i) const {
    const int gathered = tile.row_tile * kBlockM + consumer_ * 64;
    const int other = tile.col_tile * kBlockN + i * kBf16GradientCols;
    return kIsTransposed ? TmaCoord{gathered, other, tile.expert}
                         : TmaCoord{other, gathered, tile.expert};
  }

  /// Offset in a part that this lane passes to ldmatrix_x4 and stmatrix_x4 for fragments 2 `pair`
  /// and 2 `pair` + 1. Words 1 and 3 are eight columns of the gathered operand further.
  static __device__ std::uint32_t words_offset(int pair) {
    const int warp = threadIdx.x % kWarpgroup / kWarp, lane = threadIdx.x % kWarp;
    if constexpr (kIsTransposed)
      return swizzled_offset(16 * pair + lane / 16 * 8 + lane % 8, 2 * warp + lane / 8 % 2);
    else
      return part_offset<kBf16GradientCols>(16 * warp + lane % 16, 2 * pair + lane / 16);
  }

  __device__ void add(int i, const Accumulators& acc) const {
    constexpr int kPairs = kBf16GradientCols / 16;  // of fragments
    std::uint32_t words[kPairs][4] = {};
    if (accumulates_) {
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair)
        ldmatrix_x4<kIsTransposed>(slot(i) + words_offset(pair), words[pair]);
    }
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        const float* const sum = acc + ((i * kPairs + pair) * 2 + word / 2) * 4 + word % 2 * 2;
        const float2 before = unpack_bf16(words[pair][word]);
        words[pair][word] = pack_bf16(before.x + sum[0], before.y + sum[1]);
      }
      stmatrix_x4<kIsTransposed>(slot(i) + words_offset(pair), words[pair]);
    }
  }

  const CUtensorMap& dweight_;
  bool accumulates_;
  int consumer_;
  std::uint32_t memory_, barriers_;
};

}  // namespace smoe::kernels::cuda::sm90
