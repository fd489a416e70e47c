// OperandQueue: reads rows of the operands of a norm ahead.
#pragma once
#include <algorithm>

#include "kernels/cuda/device/checked_index.cuh"
#include "kernels/cuda/device/copy_queue.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/norm.h"

namespace smoe::kernels::cuda {

/// The operands of a thread's rows begin, begin + step, ..., below end, in the order in which they
/// are added up: per row the routed rows, the dense part, x and another matrix, if there is one. Of
/// each row a thread has kChunks times kWidth columns. What is read ahead takes about kBytes of
/// shared memory.
template <int kBlockThreads, int kChunks, int kBytes, class T>
class OperandQueue {
  static constexpr int kSlotBytes = kBlockThreads * kChunks * kWidth * int{sizeof(T)};
  static constexpr int kSlots = std::clamp(kBytes / kSlotBytes, 2, 12);
  using Copies = CopyQueue<kBlockThreads, kSlots, kChunks, T>;

 public:
  using Slots = typename Copies::Slots;

  struct Rows {
    std::int64_t begin, end;
    int step;
  };

  /// Chunk i of a row are columns [column + i * chunk_step, ... + kWidth), if the row has them.
  __device__ OperandQueue(const GradientParts& parts, const ConstMatrix& x,
                          const ConstMatrix& other, Slots& slots, const Rows& rows,
                          std::int64_t column, int chunk_step)
      : parts_(parts),
        x_(x),
        other_(other),
        copies_(slots),
        column_(column),
        chunk_step_(chunk_step),
        row_(rows.begin),
        end_(rows.end),
        step_(rows.step) {
    if (parts.rows.data) top_k_ = static_cast<int>(parts.top_k);
    read_index();
    for (int i = 0; i < kSlots; ++i) pop();
  }

  __device__ bool has_chunk(int i) const { return column_ + i * chunk_step_ < x_.cols; }

  /// Waits for the next operand. There is one.
  __device__ void wait() const { copies_.wait(); }

  /// A chunk of the next operand, after wait(); zeros if the row has none.
  __device__ void read(int i, float (&x)[kWidth]) const {
    if (has_chunk(i)) return load(copies_.chunk(i), x);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) x[j] = 0;
  }

  /// Gives up the next operand's memory to another copy.
  __device__ void pop() {
    const T* const source = row_ < end_ ? next_row() + column_ : nullptr;
    copies_.replace(
        [&](int i) { return source && has_chunk(i) ? source + i * chunk_step_ : nullptr; });
  }

 private:
  // The row's first index of a routed row is read one row ahead.
  __device__ void read_index() {
    if (top_k_ > 0 && row_ < end_) index_ = parts_.grouped_rows[row_ * top_k_];
  }

  __device__ const T* next_row() {
    const int operand = operand_++;
    if (operand < top_k_) {
      const std::int64_t row = checked_index(index_, parts_.rows.rows);
      if (operand_ < top_k_) index_ = parts_.grouped_rows[row_ * top_k_ + operand_];
      return row_of<T>(parts_.rows, row);
    }
    if (operand == top_k_ && parts_.dense.data) return row_of<T>(parts_.dense, row_);
    const bool is_x = operand == top_k_ + (parts_.dense.data ? 1 : 0);
    const T* const result = is_x ? row_of<T>(x_, row_) : row_of<T>(other_, row_);
    if (!is_x || !other_.data) {
      operand_ = 0;
      row_ += step_;
      read_index();
    }
    return result;
  }

  const GradientParts& parts_;
  const ConstMatrix& x_;
  const ConstMatrix& other_;
  Copies copies_;
  std::int64_t column_;
  int chunk_step_;
  std::int64_t row_, end_;  // of the next operand to be copied
  int step_;
  int operand_ = 0;  // in the row
  int top_k_ = 0;
  std::int32_t index_ = 0;  // of the next routed row to be copied
};

}  // namespace smoe::kernels::cuda
