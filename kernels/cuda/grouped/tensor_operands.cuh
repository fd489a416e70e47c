// Operands of the tensor-core product: how a tile of one lies in shared memory, how it gets there,
// and how a warp reads its fragments. A tile is kSize rows (or columns) by kDepth of the sum; 16
// byte chunks are swizzled so that eight consecutive rows never share a bank.
#pragma once
#include <type_traits>

#include "kernels/cuda/grouped/routed_index.cuh"
#include "kernels/cuda/grouped/tensor_core.cuh"
#include "kernels/cuda/grouped/work.cuh"

namespace smoe::kernels::cuda {

constexpr int kDepth = 64;  // of a pipeline stage
constexpr int kChunk = 8;   // elements in 16 bytes
constexpr int kWarpTile = 64;

/// Which index runs within a row of memory: that of the sum, or the operand's own.
enum class Contiguous { depth, size };

template <Contiguous kContiguous, int kSize>
struct SharedTile {
  static constexpr bool kAlongDepth = kContiguous == Contiguous::depth;
  static constexpr int kBytes = kSize * kDepth * int{sizeof(Bf16)};
  static constexpr int kRowChunks = (kAlongDepth ? kDepth : kSize) / kChunk;
  static constexpr int kRows = kAlongDepth ? kSize : kDepth;
  static constexpr int kPitch = kRowChunks * 16;

  static __device__ std::uint32_t offset(int row, int chunk) {
    return row * kPitch + (((chunk & ~7) | ((chunk ^ row) & 7)) << 4);
  }
};

/// Keeps the compiler from computing `x` anew at each use: it shall stay in its register.
__device__ inline void keep_in_register(std::uint32_t& x) {
  asm volatile("" : "+r"(x));
}

/// Which chunks of a tile a thread copies: always the same of a row, of kCount rows.
template <class Tile, int kThreads>
struct CopyPlan {
  static constexpr int kRowStep = kThreads / Tile::kRowChunks;
  static constexpr int kCount = Tile::kRows / kRowStep;
  // Rows a multiple of 8 apart have the same swizzle.
  static_assert(kThreads % Tile::kRowChunks == 0 && kRowStep % 8 == 0);

  int chunk = threadIdx.x % Tile::kRowChunks;
  int row = threadIdx.x / Tile::kRowChunks;
  std::uint32_t first_target = Tile::offset(row, chunk);

  __device__ CopyPlan() { keep_in_register(first_target); }
  __device__ std::uint32_t target(int i) const {
    return first_target + i * kRowStep * Tile::kPitch;
  }
};

// An operand is started for each tile; before each step's loads, begin_step is called with where
// the step begins. load starts the i-th of a thread's copies; past k_end it copies zeros. Strides
// of rows are in bytes and below 4 GiB; products with them are taken in 64 bits.

/// Routed rows as the left operand: m are grouped rows, gathered as they are loaded.
template <int kSize, int kThreads>
class RoutedRowsOperand {
 public:
  using Tile = SharedTile<Contiguous::depth, kSize>;
  using Plan = CopyPlan<Tile, kThreads>;
  static constexpr int kCount = Plan::kCount;
  struct Args {
    const Bf16* data;
    std::uint32_t stride;
    RowIndex index;
  };

  __device__ explicit RoutedRowsOperand(const Args& args) : args_(args) {}

  __device__ void start(const Work& work) {
    rows_ = work.m_end - work.m_begin - plan_.row;
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      row_[i] = args_.index.id(work.m_begin + plan_.row + i * Plan::kRowStep, work.m_end);
  }
  __device__ void begin_step(int k, int) {
    if (k > 0) return;
#pragma unroll
    for (int i = 0; i < kCount; ++i) row_[i] = args_.index.row_of(row_[i]);
  }
  __device__ void load(int i, int k, int k_end, std::uint32_t stage) const {
    const int col = k + plan_.chunk * kChunk;
    copy_async(stage + plan_.target(i), advance(args_.data + col, row_[i], args_.stride),
               i * Plan::kRowStep < rows_ && col < k_end);
  }

 private:
  const Args& args_;
  Plan plan_;
  std::uint32_t row_[kCount];  // ids until the tile's first step
  int rows_ = 0;               // of the tile, from this thread's first row on
};

/// Rows n of an expert's weight [cols, depth]. With kHalves, the second half of a tile are the rows
/// that lie `cols` further down: the up rows beside their gate rows.
template <int kSize, int kThreads, bool kHalves = false>
class WeightRowsOperand {
 public:
  using Tile = SharedTile<Contiguous::depth, kSize>;
  using Plan = CopyPlan<Tile, kThreads>;
  static constexpr int kCount = Plan::kCount;
  struct Args {
    const Bf16* data;
    std::int64_t expert_stride;  // in elements
    std::uint32_t stride;
    int cols;  // of one half if kHalves
  };

  __device__ explicit WeightRowsOperand(const Args& args) : args_(args) {}

  __device__ void start(const Work& work) {
    const int row = work.n_begin + plan_.row;
    rows_ = args_.cols - row;
    source_ = advance(args_.data + work.expert * args_.expert_stride + plan_.chunk * kChunk, row,
                      args_.stride);
  }
  __device__ void begin_step(int, int) {}
  __device__ void load(int i, int k, int k_end, std::uint32_t stage) const {
    constexpr int kPart = kHalves ? kCount / 2 : kCount;
    const Bf16* const half = i < kPart ? source_ : advance(source_, args_.cols, args_.stride);
    const int row = i % kPart * Plan::kRowStep;
    copy_async(stage + plan_.target(i), advance(half + k, row, args_.stride),
               row < rows_ && k + plan_.chunk * kChunk < k_end);
  }

 private:
  const Args& args_;
  Plan plan_;
  const Bf16* source_ = nullptr;
  int rows_ = 0;
};

/// Columns n of an expert's weight [depth, cols]: the transposed weight.
template <int kSize, int kThreads>
class WeightColsOperand {
 public:
  using Tile = SharedTile<Contiguous::size, kSize>;
  using Plan = CopyPlan<Tile, kThreads>;
  static constexpr int kCount = Plan::kCount;
  struct Args {
    const Bf16* data;
    std::int64_t expert_stride;  // in elements
    std::uint32_t stride;
    int cols;
  };

  __device__ explicit WeightColsOperand(const Args& args) : args_(args) {}

  __device__ void start(const Work& work) {
    const int col = work.n_begin + plan_.chunk * kChunk;
    source_ =
        advance(args_.data + work.expert * args_.expert_stride + col, plan_.row, args_.stride);
    row_ = col < args_.cols ? plan_.row : kNone;
  }
  __device__ void begin_step(int, int) {}
  __device__ void load(int i, int k, int k_end, std::uint32_t stage) const {
    const int row = i * Plan::kRowStep;
    copy_async(stage + plan_.target(i),
               advance(advance(source_, k, args_.stride), row, args_.stride),
               row_ < k_end - k - row);
  }

 private:
  static constexpr int kNone = 1 << 30;  // past every row

  const Args& args_;
  Plan plan_;
  const Bf16* source_ = nullptr;
  int row_ = kNone;
};

/// Columns of routed rows, summed over the rows: kIsLeft takes columns from m_begin on, otherwise
/// from n_begin on.
template <int kSize, int kThreads, bool kIsLeft>
class RoutedColsOperand {
 public:
  using Tile = SharedTile<Contiguous::size, kSize>;
  using Plan = CopyPlan<Tile, kThreads>;
  static constexpr int kCount = Plan::kCount;
  static_assert(32 % Plan::kRowStep == 0 && kDepth == 64);
  struct Args {
    const Bf16* data;
    std::uint32_t stride;
    int cols;
    RowIndex index;
  };

  __device__ explicit RoutedColsOperand(const Args& args) : args_(args) {}

  __device__ void start(const Work& work) {
    const int col = (kIsLeft ? work.m_begin : work.n_begin) + plan_.chunk * kChunk;
    source_ = args_.data + col;
    first_ = col < args_.cols ? plan_.row : kNone;
    find_rows(work.k_begin, work.k_end);
  }
  /// Each lane finds two rows for its warp, those of the next step: they arrive during this one.
  __device__ void begin_step(int k, int k_end) {
    for (int i = 0; i < 2; ++i) row_[i] = args_.index.row_of(next_id_[i]);
    find_rows(k + kDepth, k_end);
  }
  __device__ void load(int i, int k, int k_end, std::uint32_t stage) const {
    const int in_step = i * Plan::kRowStep;
    const std::uint32_t row = __shfl_sync(~0u, row_[in_step / 32], in_step % 32 + plan_.row);
    copy_async(stage + plan_.target(i), advance(source_, row, args_.stride),
               first_ < k_end - k - in_step);
  }

 private:
  static constexpr int kNone = 1 << 30;  // past every row

  __device__ void find_rows(int k, int k_end) {
    const int lane = threadIdx.x % 32;
    for (int i = 0; i < 2; ++i) next_id_[i] = args_.index.id(k + i * 32 + lane, k_end);
  }

  const Args& args_;
  Plan plan_;
  const Bf16* source_ = nullptr;
  std::uint32_t row_[2] = {0, 0}, next_id_[2] = {0, 0};
  int first_ = kNone;
};

/// A warp's fragments of kWarpTile rows of an operand, in four blocks of 16. kIsLeft for the left
/// operand of multiply_add. kHalves as in WeightRowsOperand: two blocks of each half.
template <class Tile, bool kIsLeft, bool kHalves = false>
class FragmentReader {
 public:
  /// The rows of warp `warp` of those beside one another.
  __device__ explicit FragmentReader(int warp) {
    const int lane = threadIdx.x % 32;
    const int inner = lane % 8 + lane / 16 * 8, outer = lane % 16;
    // The left operand's matrices go down the rows first, the right one's down the sum.
    const bool rows_first = kIsLeft == Tile::kAlongDepth;
    const int row = rows_first ? outer : inner;
    const int chunk = rows_first ? lane / 16 : lane / 8 % 2;
    const int first = warp * (kHalves ? kWarpTile / 2 : kWarpTile);
    offset_ = Tile::kAlongDepth ? Tile::offset(first + row, chunk)
                                : Tile::offset(row, first / kChunk + chunk);
    keep_in_register(offset_);
  }

  /// Block `block` of the 16 of the sum from kk * 16 on.
  __device__ void load(std::uint32_t tile, int kk, int block, std::uint32_t (&r)[4]) const {
    if constexpr (Tile::kAlongDepth) {
      constexpr int kHalf = Tile::kRows / 2;
      const int row = kHalves ? block / 2 * kHalf + block % 2 * 16 : block * 16;
      load_matrices<false>(((tile + offset_) ^ (kk << 5)) + row * Tile::kPitch, r);
    } else {
      load_matrices<true>(((tile + offset_) ^ (block << 5)) + kk * 16 * Tile::kPitch, r);
    }
  }

 private:
  std::uint32_t offset_;
};

}  // namespace smoe::kernels::cuda
