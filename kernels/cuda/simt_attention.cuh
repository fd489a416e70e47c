// What the forward and the backward of the SIMT attention share: tiles of queries and of keys in
// shared memory, a row of which belongs to the lanes of a thread group.
#pragma once
#include "kernels/attention_order.h"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda::attention_tiles {

constexpr int kTile = 32;                     // queries, and keys, per tile
constexpr int kLanes = 8;                     // threads per row of a tile
constexpr int kThreads = kTile * kLanes;      // thread (row, lane)
constexpr int kKeysPerLane = kTile / kLanes;  // scores per lane: keys lane, lane + 8, ...
constexpr int kMaxHeadDim = 256;
constexpr int kColumnsPerLane = kMaxHeadDim / kLanes;

// Offsets of one query head of one sequence and of the key head that it attends to.
struct Head {
  std::int64_t first_row;      // of the sequence, in [T, ...]
  std::int64_t q;              // first column in q
  std::int64_t k, v;           // first columns in kv
  std::int64_t first_element;  // of numbers per query

  __device__ Head(const AttentionShape& shape, std::int64_t sequence, std::int64_t head)
      : first_row(sequence * shape.seq_len),
        q(head * shape.head_dim),
        k(shape.kv_head_of(head) * shape.head_dim),
        v(k + shape.num_kv_heads * shape.head_dim),
        first_element(first_query_number(shape, sequence, head)) {}
};

// A tile [kTile, C] of f32 in shared memory. The odd pitch puts the rows of a column into different
// banks.
struct Tile {
  float* data;
  int pitch;

  __device__ float* operator[](int row) const { return data + row * pitch; }
};
constexpr int pitch_of(std::int64_t head_dim) {
  return static_cast<int>(head_dim) + 1 + static_cast<int>(head_dim) % 2;
}
inline std::int64_t tile_bytes(const AttentionShape& shape) {
  return kTile * std::int64_t{pitch_of(shape.head_dim)} * 4;
}

// Rows of one sequence, in the columns of one head.
struct Rows {
  const ConstMatrix& matrix;
  std::int64_t first;   // row of the sequence
  std::int64_t count;   // rows of the sequence
  std::int64_t column;  // first column of the head
};

// tile = rows [begin, begin + kTile); rows past the end of the sequence are zero.
template <class T>
__device__ void load_tile(const Rows& rows, std::int64_t begin, int width, const Tile& tile) {
  for (int at = threadIdx.x; at < kTile * width; at += kThreads) {
    const int i = at / width, c = at % width;
    const bool exists = begin + i < rows.count;
    tile[i][c] =
        exists ? to_f32(row_of<T>(rows.matrix, rows.first + begin + i)[rows.column + c]) : 0.0f;
  }
}

// The dot product of two rows.
__device__ inline float dot(const float* a, const float* b, int width) {
  float sum = 0;
  for (int c = 0; c < width; ++c) sum += a[c] * b[c];
  return sum;
}

// Reduces over the lanes of a row.
template <class Op>
__device__ float reduce_lanes(float x, Op op) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    x = op(x, __shfl_xor_sync(0xffffffffu, x, distance));
  return x;
}

template <class T>
__device__ float rounded(float x) {
  return to_f32(from_f32<T>(x));
}

// sum[i] += <weights, column lane + 8 i of rows>: one row of a product of tiles. The lanes of a row
// wrote its weights themselves.
__device__ inline void add_weighted_rows(const float* weights, const Tile& rows, int width,
                                         float (&sum)[kColumnsPerLane]) {
  const int lane = threadIdx.x % kLanes;
  for (int j = 0; j < kTile; ++j) {
    const float weight = weights[j];
#pragma unroll
    for (int i = 0; i < kColumnsPerLane; ++i)
      if (const int c = lane + i * kLanes; c < width) sum[i] += weight * rows[j][c];
  }
}

template <class T>
__device__ void store_row(const float (&x)[kColumnsPerLane], float factor, T* target, int width) {
  const int lane = threadIdx.x % kLanes;
#pragma unroll
  for (int i = 0; i < kColumnsPerLane; ++i)
    if (const int c = lane + i * kLanes; c < width) target[c] = from_f32<T>(factor * x[i]);
}

inline void check_head_dim(const char* op, const AttentionShape& shape) {
  SMOE_CHECK(shape.head_dim <= kMaxHeadDim, op, ": head_dim must be at most ", kMaxHeadDim,
             " on a GPU; got ", shape.head_dim);
}

inline dim3 grid_of(const AttentionShape& shape, std::int64_t num_heads) {
  return dim3(static_cast<unsigned>(ceil_div(shape.seq_len, kTile)),
              static_cast<unsigned>(num_heads), static_cast<unsigned>(shape.batch));
}

template <class Kernel>
unsigned allow_shared(Kernel* kernel, std::int64_t bytes) {
  CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(bytes)));
  return static_cast<unsigned>(bytes);
}

}  // namespace smoe::kernels::cuda::attention_tiles
