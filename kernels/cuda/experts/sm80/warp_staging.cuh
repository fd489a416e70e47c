// A warp's staging buffer between mma fragments and rows in memory: 16 rows of 64 bf16 columns in
// shared memory, accessed by fragments on one side and by 16-byte chunks of rows on the other.
#pragma once
#include "kernels/cuda/device/mma.cuh"

namespace smoe::kernels::cuda::sm80 {

class WarpStaging {
 public:
  static constexpr int kBytes = 16 * 64 * int{sizeof(Bf16)};

  WarpStaging() = default;
  __device__ explicit WarpStaging(unsigned char* memory) : memory_(memory) {}

  /// This thread's two neighbors of fragment j (columns from 8 j on), row lane / 4 + 8 `lower`.
  __device__ std::uint32_t& pair(int lower, int j) const {
    const int lane = threadIdx.x % 32;
    return *reinterpret_cast<std::uint32_t*>(memory_ + swizzled_offset(lane / 4 + 8 * lower, j) +
                                             lane % 4 * 4);
  }
  /// Columns 8 c to 8 c + 7 of a row.
  __device__ uint4& chunk(int row, int c) const {
    return *reinterpret_cast<uint4*>(memory_ + swizzled_offset(row, c));
  }

  /// f(row, chunk, 16 bytes) over all rows and the first kChunks chunks of each, without bank
  /// conflicts.
  template <int kChunks, class F>
  __device__ void for_each_chunk(F&& f) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kChunks / 2; ++i) {
      const int row = i * 32 / kChunks + lane / kChunks, c = lane % kChunks;
      f(row, c, chunk(row, c));
    }
  }

 private:
  static __device__ int swizzled_offset(int row, int c) {
    return row * 128 + ((c ^ (row & 7)) << 4);
  }

  unsigned char* memory_ = nullptr;
};

}  // namespace smoe::kernels::cuda::sm80
