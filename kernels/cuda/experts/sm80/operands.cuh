// Operands of the sm80 grouped GEMMs: the shared-memory layout of an operand tile, its cp.async
// loads, and how a warp reads its fragments. A tile has kSize rows (or columns) of kBlockK; 16-byte
// chunks are swizzled so that eight consecutive rows never share a bank.
#pragma once
#include <type_traits>

#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/row_index.cuh"
#include "kernels/cuda/device/tile_scheduler.cuh"
#include "kernels/cuda/experts/choose.h"

namespace smoe::kernels::cuda::sm80 {

constexpr int kBlockK = kSm80Tile.k;  // per pipeline stage
constexpr int kChunk = 8;             // elements in 16 bytes
constexpr int kWarpTile = 64;

/// Contiguous dimension of an operand in memory.
enum class Major { k, mn };

template <Major kMajor, int kSize>
struct SharedTile {
  static constexpr bool kIsKMajor = kMajor == Major::k;
  static constexpr int kBytes = kSize * kBlockK * int{sizeof(Bf16)};
  static constexpr int kRowChunks = (kIsKMajor ? kBlockK : kSize) / kChunk;
  static constexpr int kRows = kIsKMajor ? kSize : kBlockK;
  static constexpr int kPitch = kRowChunks * 16;

  static __device__ std::uint32_t offset(int row, int chunk) {
    return row * kPitch + (((chunk & ~7) | ((chunk ^ row) & 7)) << 4);
  }
};

/// Keeps the compiler from rematerializing `x` at each use.
__device__ inline void keep_in_register(std::uint32_t& x) {
  asm volatile("" : "+r"(x));
}

/// The chunks of a tile that a thread copies: the same chunk of kCount rows.
template <class Tile, int kThreads>
struct ThreadCopies {
  static constexpr int kRowStep = kThreads / Tile::kRowChunks;
  static constexpr int kCount = Tile::kRows / kRowStep;
  // Rows that are a multiple of 8 apart have the same swizzle.
  static_assert(kThreads % Tile::kRowChunks == 0 && kRowStep % 8 == 0);

  int chunk = threadIdx.x % Tile::kRowChunks;
  int row = threadIdx.x / Tile::kRowChunks;
  std::uint32_t first_target = Tile::offset(row, chunk);

  __device__ ThreadCopies() { keep_in_register(first_target); }
  __device__ std::uint32_t target(int i) const {
    return first_target + i * kRowStep * Tile::kPitch;
  }
};

// Every operand class has begin_tile, called per output tile, begin_k_tile, called before the loads
// of each k tile, and load, which issues the i-th of a thread's copies; past k_end it copies zeros.
// Row strides are below 4 GiB; their multiples are computed in 64 bits.

/// Routed rows as the left operand: m are grouped rows, gathered.
template <int kSize, int kThreads>
class RoutedRowsOperand {
 public:
  using Tile = SharedTile<Major::k, kSize>;
  using Copies = ThreadCopies<Tile, kThreads>;
  static constexpr int kCount = Copies::kCount;
  struct Args {
    const Bf16* data;
    std::uint32_t row_bytes;
    RowIndex index;
  };

  __device__ explicit RoutedRowsOperand(const Args& args) : args_(args) {}

  __device__ void begin_tile(const TileCoord& tile) {
    rows_ = tile.m_end - tile.m_begin - copies_.row;
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      row_[i] = args_.index.id(tile.m_begin + copies_.row + i * Copies::kRowStep, tile.m_end);
  }
  __device__ void begin_k_tile(int k, int) {
    if (k > 0) return;
#pragma unroll
    for (int i = 0; i < kCount; ++i) row_[i] = args_.index.row_of(row_[i]);
  }
  __device__ void load(int i, int k, int k_end, std::uint32_t stage) const {
    const int col = k + copies_.chunk * kChunk;
    cp_async(stage + copies_.target(i), advance_rows(args_.data + col, row_[i], args_.row_bytes),
             i * Copies::kRowStep < rows_ && col < k_end);
  }

 private:
  const Args& args_;
  Copies copies_;
  std::uint32_t row_[kCount];  // ids until the tile's first k tile
  int rows_ = 0;               // of the tile, from this thread's first row on
};

/// Rows n of an expert's weight [cols, k]. With kHalves the second half of a tile are the rows that
/// lie `cols` below those of the first: up rows beside their GLU rows.
template <int kSize, int kThreads, bool kHalves = false>
class WeightRowsOperand {
 public:
  using Tile = SharedTile<Major::k, kSize>;
  using Copies = ThreadCopies<Tile, kThreads>;
  static constexpr int kCount = Copies::kCount;
  struct Args {
    const Bf16* data;
    std::int64_t expert_stride;  // in elements
    std::uint32_t row_bytes;
    int cols;  // of one half if kHalves
  };

  __device__ explicit WeightRowsOperand(const Args& args) : args_(args) {}

  __device__ void begin_tile(const TileCoord& tile) {
    const int row = tile.n_begin + copies_.row;
    rows_ = args_.cols - row;
    source_ = advance_rows(args_.data + tile.expert * args_.expert_stride + copies_.chunk * kChunk,
                           row, args_.row_bytes);
  }
  __device__ void begin_k_tile(int, int) {}
  __device__ void load(int i, int k, int k_end, std::uint32_t stage) const {
    constexpr int kPerHalf = kHalves ? kCount / 2 : kCount;
    const Bf16* const half =
        i < kPerHalf ? source_ : advance_rows(source_, args_.cols, args_.row_bytes);
    const int row = i % kPerHalf * Copies::kRowStep;
    cp_async(stage + copies_.target(i), advance_rows(half + k, row, args_.row_bytes),
             row < rows_ && k + copies_.chunk * kChunk < k_end);
  }

 private:
  const Args& args_;
  Copies copies_;
  const Bf16* source_ = nullptr;
  int rows_ = 0;
};

/// Columns n of an expert's weight [k, cols]: the transposed weight.
template <int kSize, int kThreads>
class WeightColumnsOperand {
 public:
  using Tile = SharedTile<Major::mn, kSize>;
  using Copies = ThreadCopies<Tile, kThreads>;
  static constexpr int kCount = Copies::kCount;
  struct Args {
    const Bf16* data;
    std::int64_t expert_stride;  // in elements
    std::uint32_t row_bytes;
    int cols;
  };

  __device__ explicit WeightColumnsOperand(const Args& args) : args_(args) {}

  __device__ void begin_tile(const TileCoord& tile) {
    const int col = tile.n_begin + copies_.chunk * kChunk;
    source_ = advance_rows(args_.data + tile.expert * args_.expert_stride + col, copies_.row,
                           args_.row_bytes);
    row_ = col < args_.cols ? copies_.row : kNone;
  }
  __device__ void begin_k_tile(int, int) {}
  __device__ void load(int i, int k, int k_end, std::uint32_t stage) const {
    const int row = i * Copies::kRowStep;
    cp_async(stage + copies_.target(i),
             advance_rows(advance_rows(source_, k, args_.row_bytes), row, args_.row_bytes),
             row_ < k_end - k - row);
  }

 private:
  static constexpr int kNone = 1 << 30;  // past every row

  const Args& args_;
  Copies copies_;
  const Bf16* source_ = nullptr;
  int row_ = kNone;
};

/// Columns of routed rows, reduced over the rows: from m_begin on if kIsLeft, else from n_begin on.
template <int kSize, int kThreads, bool kIsLeft>
class RoutedColumnsOperand {
 public:
  using Tile = SharedTile<Major::mn, kSize>;
  using Copies = ThreadCopies<Tile, kThreads>;
  static constexpr int kCount = Copies::kCount;
  static_assert(32 % Copies::kRowStep == 0 && kBlockK == 64);
  struct Args {
    const Bf16* data;
    std::uint32_t row_bytes;
    int cols;
    RowIndex index;
  };

  __device__ explicit RoutedColumnsOperand(const Args& args) : args_(args) {}

  __device__ void begin_tile(const TileCoord& tile) {
    const int col = (kIsLeft ? tile.m_begin : tile.n_begin) + copies_.chunk * kChunk;
    source_ = args_.data + col;
    first_ = col < args_.cols ? copies_.row : kNone;
    load_ids(tile.k_begin, tile.k_end);
  }
  /// Each lane loads two ids for its warp, those of the next k tile: they arrive during this one.
  __device__ void begin_k_tile(int k, int k_end) {
    for (int i = 0; i < 2; ++i) row_[i] = args_.index.row_of(next_id_[i]);
    load_ids(k + kBlockK, k_end);
  }
  __device__ void load(int i, int k, int k_end, std::uint32_t stage) const {
    const int in_k_tile = i * Copies::kRowStep;
    const std::uint32_t row = __shfl_sync(~0u, row_[in_k_tile / 32], in_k_tile % 32 + copies_.row);
    cp_async(stage + copies_.target(i), advance_rows(source_, row, args_.row_bytes),
             first_ < k_end - k - in_k_tile);
  }

 private:
  static constexpr int kNone = 1 << 30;  // past every row

  __device__ void load_ids(int k, int k_end) {
    const int lane = threadIdx.x % 32;
    for (int i = 0; i < 2; ++i) next_id_[i] = args_.index.id(k + i * 32 + lane, k_end);
  }

  const Args& args_;
  Copies copies_;
  const Bf16* source_ = nullptr;
  std::uint32_t row_[2] = {0, 0}, next_id_[2] = {0, 0};
  int first_ = kNone;
};

/// A warp's fragments of kWarpTile rows of an operand, in four blocks of 16. kIsLeft for the left
/// operand of mma_m16n8k16. kHalves as in WeightRowsOperand: two blocks of each half.
template <class Tile, bool kIsLeft, bool kHalves = false>
class OperandFragments {
 public:
  /// `warp` counts the warps along the operand's rows.
  __device__ explicit OperandFragments(int warp) {
    const int lane = threadIdx.x % 32;
    const int inner = lane % 8 + lane / 16 * 8, outer = lane % 16;
    // The 8 x 8 matrices advance along rows first for the left operand, along k for the right one.
    const bool rows_first = kIsLeft == Tile::kIsKMajor;
    const int row = rows_first ? outer : inner;
    const int chunk = rows_first ? lane / 16 : lane / 8 % 2;
    const int first = warp * (kHalves ? kWarpTile / 2 : kWarpTile);
    offset_ = Tile::kIsKMajor ? Tile::offset(first + row, chunk)
                              : Tile::offset(row, first / kChunk + chunk);
    keep_in_register(offset_);
  }

  /// Loads block `block` of k slice kk (16 of k) of the tile.
  __device__ void load(std::uint32_t tile, int kk, int block, std::uint32_t (&r)[4]) const {
    if constexpr (Tile::kIsKMajor) {
      constexpr int kHalf = Tile::kRows / 2;
      const int row = kHalves ? block / 2 * kHalf + block % 2 * 16 : block * 16;
      ldmatrix_x4<false>(((tile + offset_) ^ (kk << 5)) + row * Tile::kPitch, r);
    } else {
      ldmatrix_x4<true>(((tile + offset_) ^ (block << 5)) + kk * 16 * Tile::kPitch, r);
    }
  }

 private:
  std::uint32_t offset_;
};

}  // namespace smoe::kernels::cuda::sm80
