// Epilogue building blocks: 64 x 64 bf16 sub-tiles of a consumer's results in shared memory,
// swizzled as TMA expects. All functions are called by a whole warpgroup.
#pragma once
#include "kernels/cuda/experts/sm90/pipeline.cuh"

namespace smoe::kernels::cuda::sm90 {

/// Offset that this lane passes to stmatrix_x4 and ldmatrix_x4 for fragments 2 `pair` and
/// 2 `pair` + 1 of a sub-tile.
__device__ inline std::uint32_t matrices_offset(int pair) {
  const int thread = threadIdx.x % kWarpgroup, lane = thread % 32;
  return swizzled_offset(thread / 32 * 16 + lane % 16, 2 * pair + lane / 16);
}
/// Index of the first of the two accumulators that word `word` of fragment pair `pair` holds, in
/// sub-tile `subtile` of the columns; words 1 and 3 are eight rows below.
__device__ constexpr int accumulator_index(int subtile, int pair, int word) {
  return (subtile * 8 + 2 * pair + word / 2) * 4 + word % 2 * 2;
}

/// Byte offset of 16-byte chunk `chunk` of row `row` in a part of 32 or 64 columns, swizzled.
template <int kCols>
__device__ std::uint32_t part_offset(int row, int chunk) {
  if constexpr (kCols == 64) return swizzled_offset(row, chunk);
  return row * 64 + ((chunk ^ (row / 2 & 3)) << 4);
}

/// Writes a sub-tile of words(pair, word), two neighbors each.
template <class F>
__device__ void write_subtile(std::uint32_t subtile, F&& words) {
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    const std::uint32_t four[4] = {words(pair, 0), words(pair, 1), words(pair, 2), words(pair, 3)};
    stmatrix_x4<false>(subtile + matrices_offset(pair), four);
  }
}

/// A consumer's results: its 64 rows of a tile as four sub-tiles side by side.
constexpr int kResultSubtiles = kBlockN / 64, kResultBytes = kResultSubtiles * kSubtileBytes;

/// Writes words(i), of accumulators i and i + 1, once TMA has stored the results before.
template <class F>
__device__ void write_results(int consumer, std::uint32_t results, F&& words) {
  if (threadIdx.x % kWarpgroup == 0) tma_store_wait_read<0>();
  warpgroup_sync(consumer);
#pragma unroll
  for (int subtile = 0; subtile < kResultSubtiles; ++subtile)
    write_subtile(results + subtile * kSubtileBytes, [&](int pair, int word) {
      return words(accumulator_index(subtile, pair, word));
    });
}
/// Stores results by TMA, which one thread issues.
__device__ inline void store_results(const CUtensorMap& map, std::uint32_t results, int col,
                                     int row) {
  if (threadIdx.x % kWarpgroup != 0) return;
#pragma unroll
  for (int subtile = 0; subtile < kResultSubtiles; ++subtile)
    tma_store(map, results + subtile * kSubtileBytes, {col + subtile * 64, row, 0});
  tma_store_commit();
}

/// f(row, chunk, 16 bytes) over the first `rows` rows of a sub-tile: for the last rows of an
/// expert, where a TMA store would overwrite rows of the next expert.
template <class F>
__device__ void for_each_chunk(std::uint32_t subtile, int rows, F&& f) {
  const int thread = threadIdx.x % kWarpgroup, chunk = thread % 8;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = thread / 8 + 16 * i;
    if (row < rows) f(row, chunk, load_shared<uint4>(subtile + swizzled_offset(row, chunk)));
  }
}

}  // namespace smoe::kernels::cuda::sm90
