// Columns of rows that a producer warpgroup gathers by cp.async, as an MN-major operand: k tiles of
// 64 rows x 128 columns in two sub-tiles. Warp w copies rows 16 w to 16 w + 15: lane l chunk l % 16
// of rows l / 16 + 2 i from there.
#pragma once
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/row_index.cuh"
#include "kernels/cuda/experts/sm90/pipeline.cuh"

namespace smoe::kernels::cuda::sm90 {

constexpr int kRowsPerWarp = kBlockK / kWarpsPerGroup;

struct GatheredOperand {
  const Bf16* rows;
  std::uint32_t row_bytes;  // the whole operand is smaller than 4 GiB
  int cols;
  RowIndex index;

  GatheredOperand(const RoutingView& routing, const RoutedRows& operand)
      : rows(static_cast<const Bf16*>(operand.rows.data)),
        row_bytes(cuda::row_bytes(operand.rows)),
        cols(static_cast<int>(operand.rows.cols)),
        index(routing, operand.layout, operand.rows.rows) {}

  /// The row of an id that index.id() loaded.
  __device__ std::uint32_t offset(std::int32_t id) const {
    return static_cast<std::uint32_t>(index.row_of(id)) * row_bytes;
  }
};

/// Ids of the warp's rows of one k tile after the other: lane l has that of row l % 16. Each is
/// loaded one k tile ahead: dividing an id loaded just before would wait for its load.
class GatheredIds {
 public:
  __device__ GatheredIds(const RowIndex& index, int k_begin, int num_k)
      : index_(index),
        at_(k_begin + static_cast<int>(threadIdx.x % kWarpgroup) / kWarp * kRowsPerWarp +
            static_cast<int>(threadIdx.x) % kRowsPerWarp),
        end_(k_begin + num_k),
        next_(index.id(at_, end_)) {}

  __device__ std::int32_t next() {
    const std::int32_t id = next_;
    at_ += kBlockK;
    next_ = index_.id(at_, end_);
    return id;
  }

 private:
  const RowIndex& index_;
  int at_, end_;
  std::int32_t next_;
};

/// A producer thread's chunk of 128 columns of a gathered operand.
class GatheredCols {
 public:
  __device__ GatheredCols(const GatheredOperand& operand, int first_col) {
    const int col = first_col + chunk() * 8;
    is_in_ = col < operand.cols;
    source_ = operand.rows + (is_in_ ? col : 0);
  }

  /// Copies this thread's chunks of a k tile of num_rows rows to the two sub-tiles from `to` on,
  /// zeros past the last row; the warp's lanes hold the offsets of its rows (GatheredIds).
  __device__ void copy(std::uint32_t to, std::uint32_t offset, int num_rows) const {
    const int lane = threadIdx.x % kWarp;
    const int row = threadIdx.x % kWarpgroup / kWarp * kRowsPerWarp + lane / 16;
    const std::uint32_t target =
        to + chunk() / 8 * kSubtileBytes + swizzled_offset(row, chunk() % 8);
#pragma unroll
    for (int i = 0; i < kRowsPerWarp / 2; ++i)
      // The swizzle of row `row` + 2 i, whose lowest bit is that of `row`.
      cp_async((target ^ (2 * i & 6) << 4) + 2 * i * kRowBytes,
               offset_pointer(source_, __shfl_sync(~0u, offset, 2 * i + lane / 16)),
               is_in_ && row + 2 * i < num_rows);
  }

 private:
  static __device__ int chunk() {
    return threadIdx.x % 16;
  }

  bool is_in_;
  const Bf16* source_;
};

}  // namespace smoe::kernels::cuda::sm90
