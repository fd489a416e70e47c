// A consumer's results on their way to memory: blocks of 64 rows and 64 columns of bf16 in shared
// memory, swizzled as TMA has them. All functions are for the whole warpgroup.
#pragma once
#include "kernels/cuda/hopper/pipeline.cuh"

namespace smoe::kernels::cuda::hopper {

/// Of the fragments 2 `pair` and 2 `pair` + 1 of a block, where this lane's row of store_matrices
/// and load_matrices begins.
__device__ inline std::uint32_t matrices_offset(int pair) {
  const int thread = threadIdx.x % kWarpgroup, lane = thread % 32;
  return chunk_offset(thread / 32 * 16 + lane % 16, 2 * pair + lane / 16);
}
/// Which of a lane's sums is the first of the two neighbours that word `word` of matrices `pair`
/// holds, in block `block` of the sums' columns; words 1 and 3 are eight rows further down.
__device__ constexpr int sum_of(int block, int pair, int word) {
  return (block * 8 + 2 * pair + word / 2) * 4 + word % 2 * 2;
}

/// Writes a block of words(pair, word): two neighbours each.
template <class F>
__device__ void write_block(std::uint32_t block, F&& words) {
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    const std::uint32_t four[4] = {words(pair, 0), words(pair, 1), words(pair, 2), words(pair, 3)};
    store_matrices<false>(block + matrices_offset(pair), four);
  }
}

__device__ inline uint4 load_chunk(std::uint32_t address) {
  uint4 chunk;
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(chunk.x), "=r"(chunk.y), "=r"(chunk.z), "=r"(chunk.w)
               : "r"(address)
               : "memory");
  return chunk;
}

/// f(row, chunk, what lies there) for the first `rows` rows: for the last rows of an expert, behind
/// which a box would write over the next one's.
template <class F>
__device__ void for_rows_of_block(std::uint32_t block, int rows, F&& f) {
  const int thread = threadIdx.x % kWarpgroup, chunk = thread % 8;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = thread / 8 + 16 * i;
    if (row < rows) f(row, chunk, load_chunk(block + chunk_offset(row, chunk)));
  }
}

}  // namespace smoe::kernels::cuda::hopper
