// A warp's way from fragments to rows of memory and back: 16 rows of 64 bf16 columns in shared
// memory, written as fragments hold them and read as 16-byte chunks of rows.
#pragma once
#include "kernels/cuda/grouped/tensor_core.cuh"

namespace smoe::kernels::cuda {

class Staging {
 public:
  static constexpr int kBytes = 16 * 64 * int{sizeof(Bf16)};

  Staging() = default;
  __device__ explicit Staging(unsigned char* memory) : memory_(memory) {}

  /// The thread's two neighbours of fragment j (columns from 8 j on), row lane / 4 + 8 `lower`.
  __device__ std::uint32_t& pair(int lower, int j) const {
    const int lane = threadIdx.x % 32;
    return *reinterpret_cast<std::uint32_t*>(memory_ + place(lane / 4 + 8 * lower, j) +
                                             lane % 4 * 4);
  }
  /// Columns 8 c to 8 c + 7 of a row.
  __device__ uint4& chunk(int row, int c) const {
    return *reinterpret_cast<uint4*>(memory_ + place(row, c));
  }

  /// f(row, chunk, what lies there) over all rows and the first kChunks chunks of each; no bank is
  /// met twice.
  template <int kChunks, class F>
  __device__ void for_chunks(F&& f) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kChunks / 2; ++i) {
      const int row = i * 32 / kChunks + lane / kChunks, c = lane % kChunks;
      f(row, c, chunk(row, c));
    }
  }

 private:
  static __device__ int place(int row, int c) {
    return row * 128 + ((c ^ (row & 7)) << 4);
  }

  unsigned char* memory_ = nullptr;
};

}  // namespace smoe::kernels::cuda
