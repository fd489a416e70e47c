// Tiles of weight gradients, experts with the most rows first; their scheduler, which takes them
// from a counter for a cluster of blocks.
#pragma once
#include "kernels/cuda/device/tile_order.cuh"
#include "kernels/cuda/experts/sm90/tile_queue.cuh"

namespace smoe::kernels::cuda::sm90 {

struct GradientTilesArgs {
  const std::int32_t* expert_offsets;
  int num_experts;
  int row_tiles, col_tiles;  // of A's columns and of B's
  int* tile_counter;
};

using GradientTileQueue = TileQueue<kClusterSize>;

// The experts whose gradients change, in descending order of their number of rows: a long reduction
// that starts last would run while all other SMs are idle.
struct ExpertOrder {
  int num_used;
  std::uint16_t experts[kSm90MaxExperts];

  /// Called by all threads. `scratch` has room for num_experts numbers. `with_empty`: also those
  /// without rows, whose gradients become zeros.
  __device__ void build(const GradientTilesArgs& args, bool with_empty, int* scratch) {
    const int num_experts = args.num_experts;
    const auto num_rows = [&](int expert) {
      return __ldg(args.expert_offsets + expert + 1) - __ldg(args.expert_offsets + expert);
    };
    for (int i = threadIdx.x; i < num_experts; i += kThreads) scratch[i] = num_rows(i);
    if (threadIdx.x == 0) num_used = 0;
    __syncthreads();
    for (int expert = threadIdx.x; expert < num_experts; expert += kThreads) {
      const int own = scratch[expert];
      int place = 0;
      for (int other = 0; other < num_experts; ++other)
        place += scratch[other] > own || (scratch[other] == own && other < expert);
      experts[place] = static_cast<std::uint16_t>(expert);
      if (own > 0 || with_empty) atomicAdd(&num_used, 1);
    }
    fence_proxy_async();  // the scratch memory is a stage's
    __syncthreads();
  }
};

struct GradientTile {
  int expert;  // -1 after the last tile
  int row_tile, col_tile;
  int k_begin, num_k;

  __device__ explicit GradientTile(const int4& tile)
      : expert(tile.x),
        row_tile(tile.y >> 16),
        col_tile(tile.y & 0xFFFF),
        k_begin(tile.z),
        num_k(tile.w) {}
  __device__ bool is_end() const { return expert < 0; }
  /// One, of zeros, if the expert has no rows.
  __device__ int num_k_tiles() const { return max((num_k + kBlockK - 1) / kBlockK, 1); }
};

/// Publishes the tiles of a cluster, then the end. All functions are called by one thread of
/// cluster block 0.
class GradientTileScheduler {
 public:
  /// It has taken `first_number`.
  __device__ GradientTileScheduler(const GradientTilesArgs& args, const GradientTileQueue& queue,
                                   const ExpertOrder& order, int first_number)
      : args_(args), queue_(queue), order_(order), number_(first_number) {}

  /// Publishes tile i of the queue, or the end.
  __device__ void publish(int i) {
    constexpr int kBand = 4;  // of row tile pairs
    const int pairs = (args_.row_tiles + 1) / 2, tiles_per_expert = pairs * args_.col_tiles;
    const int num_tiles = order_.num_used * tiles_per_expert;
    int4 tiles[kClusterSize]{{-1, 0, 0, 0}, {-1, 0, 0, 0}};
    const bool is_end = number_ >= num_tiles;
    if (!is_end) {
      const int place = number_ / tiles_per_expert;
      const TileOrder<kBand> at(number_ - place * tiles_per_expert, pairs, args_.col_tiles);
      const int expert = order_.experts[place];
      const int begin = __ldg(args_.expert_offsets + expert);
      const int num_rows = __ldg(args_.expert_offsets + expert + 1) - begin;
      for (int rank = 0; rank < kClusterSize; ++rank)
        tiles[rank] = {expert, (at.row * kClusterSize + rank) << 16 | at.col, begin, num_rows};
    }
    queue_.publish(i, tiles);
    if (is_end)
      finish_tiles(args_.tile_counter, number_, num_tiles);
    else
      number_ = next_tile(args_.tile_counter, number_);
  }

 private:
  const GradientTilesArgs& args_;
  const GradientTileQueue& queue_;
  const ExpertOrder& order_;
  int number_;
};

}  // namespace smoe::kernels::cuda::sm90
