// Products of routed rows with their expert's weights: tiles of 128 x 256, one block a
// multiprocessor. One warpgroup loads (rows by TMA, or gathered by copy_async; weights by TMA), two
// multiply 64 rows each and run the epilogue on their own.
#pragma once
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/grouped/routed_index.cuh"
#include "kernels/cuda/hopper/pair_walk.cuh"
#include "kernels/cuda/hopper/tensor_map.h"

namespace smoe::kernels::cuda::hopper {

/// How a tile's columns lie in an expert's weight: as its rows; as 128 of its rows and the same of
/// its other half; as its columns.
enum class WeightForm { rows, halves, cols };

/// 64 rows of a tile, a consumer's.
struct ConsumerTile {
  int expert;
  int row;   ///< the first
  int rows;  ///< how many exist, from there on; more than 64 if all do
  int col_tile;
};

/// An epilogue is made for each consumer with kBytes of shared memory (at a multiple of 1024), an
/// own barrier if it wants one, and is called for each tile that has rows: begin before the
/// products, prefetch when they have begun, run with their sums. finish ends the last stores.
template <bool kGathers_, WeightForm kWeight_, int kStages, class Epilogue_>
struct RowProduct {
  using Epilogue = Epilogue_;
  using Ring = Pipeline<kStages>;
  static constexpr bool kGathers = kGathers_;
  static constexpr WeightForm kWeight = kWeight_;
  static constexpr Major kMajor = kWeight == WeightForm::cols ? Major::size : Major::depth;
  /// Columns a tile advances by: of each half, if they come in halves.
  static constexpr int kColStep = kWeight == WeightForm::halves ? kTileN / 2 : kTileN;
  static constexpr int kEpilogueAt = Ring::kBytes;
  static constexpr int kBarriersAt = kEpilogueAt + kConsumers * Epilogue::kBytes;
  static constexpr int kTablesAt = kBarriersAt + Ring::kBarrierBytes + kConsumers * 16;
  static constexpr int kSharedBytes = kTablesAt + int{sizeof(ExpertTables)};
  static_assert(kSharedBytes <= kSharedLimit);

  struct Args {
    CUtensorMap left, weight;
    const std::int32_t* expert_offsets;
    int num_experts, col_tiles, depth;
    // Rows that are gathered.
    const Bf16* rows;
    std::uint32_t stride;  // in bytes
    RowIndex index;
    typename Epilogue::Args epilogue;
  };
};

template <class P>
__device__ void load_weight(const typename P::Args& args, const typename P::Ring& ring, int stage,
                            const RowTile& tile, int k, int rank) {
  const std::uint32_t to = ring.right(stage), barrier = ring.full(stage);
  // Each block loads its half for both where both have the same columns.
  constexpr int kParts = P::kWeight == WeightForm::cols ? 4 : 2;
  const int begin = tile.is_shared ? rank * kParts / 2 : 0;
  const int end = tile.is_shared ? begin + kParts / 2 : kParts;
  for (int part = begin; part < end; ++part) {
    const std::uint32_t at = to + part * (kRightBytes / kParts);
    BoxAt box;
    if constexpr (P::kWeight == WeightForm::rows)
      box = {k, tile.col_tile * kTileN + part * 128, tile.expert};
    else if constexpr (P::kWeight == WeightForm::halves)
      box = {k, tile.col_tile * P::kColStep, tile.expert * 2 + part};
    else
      box = {tile.col_tile * kTileN + part * 64, k, tile.expert};
    tile.is_shared ? load_box_for_both(at, args.weight, barrier, box)
                   : load_box(at, args.weight, barrier, box);
  }
}

/// One thread; all that a tile needs comes by TMA. Rows behind the expert's last are the next
/// expert's: multiplied, never stored.
template <class P>
__device__ void load_by_boxes(const typename P::Args& args, const typename P::Ring& ring,
                              const ExpertTables& tables) {
  const int rank = cluster_rank();
  PairWalk walk(tables, args.num_experts, args.col_tiles);
  typename P::Ring::Position position(1);
  for (RowTile tile; walk.next(tile);)
    for (int k = 0; k < args.depth; k += kTileDepth) {
      const int stage = position.stage();
      wait(ring.empty(stage), position.parity());
      arrive_expecting(ring.full(stage), kLeftBytes + kRightBytes);
      load_box(ring.left(stage), args.left, ring.full(stage), {k, tile.row, 0});
      load_weight<P>(args, ring, stage, tile, k, rank);
      position.next();
    }
}

/// A warpgroup; thread t copies chunk t % 8 of rows t / 8 + 16 i.
template <class P>
__device__ void load_by_rows(const typename P::Args& args, const typename P::Ring& ring,
                             const ExpertTables& tables) {
  constexpr int kRows = 8;
  const int thread = threadIdx.x % kWarpgroup, rank = cluster_rank();
  const int chunk = thread % 8, row = thread / 8;
  const std::uint32_t target = chunk_offset(row, chunk);
  PairWalk walk(tables, args.num_experts, args.col_tiles);
  typename P::Ring::Position position(1);
  for (RowTile tile; walk.next(tile);) {
    const Bf16* source[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int at = tile.row + row + 16 * i;
      source[i] =
          cuda::advance(args.rows + chunk * 8, at < tile.end ? args.index(at) : 0, args.stride);
    }
    // Rows that do not exist are not copied: what is there gives sums that nobody stores.
    const int live = (min(tile.end - tile.row, kTileM) - row + 15) / 16;
    for (int k = 0; k < args.depth; k += kTileDepth) {
      const int stage = position.stage();
      wait(ring.empty(stage), position.parity());
      if (thread == 0) {
        arrive_expecting(ring.full(stage), kRightBytes);
        load_weight<P>(args, ring, stage, tile, k, rank);
      }
      const bool is_in = k + chunk * 8 < args.depth;
      const std::uint32_t to = ring.left(stage) + target;
#pragma unroll
      for (int i = 0; i < kRows; ++i)
        if (i < live) copy_async(to + i * 16 * kRowBytes, source[i] + (is_in ? k : 0), is_in);
      arrive_after_copies(ring.full(stage));
      position.next();
    }
  }
}

template <class P>
__device__ void consume(const typename P::Args& args, const typename P::Ring& ring,
                        const ExpertTables& tables, int consumer, std::uint32_t shared) {
  const int steps = (args.depth + kTileDepth - 1) / kTileDepth;
  PairWalk walk(tables, args.num_experts, args.col_tiles);
  typename P::Ring::Position position(0);
  typename P::Epilogue epilogue(args.epilogue, consumer,
                                shared + P::kEpilogueAt + consumer * P::Epilogue::kBytes,
                                shared + P::kBarriersAt + P::Ring::kBarrierBytes + consumer * 16);
  WideSums sums;
  RowTile next;
  bool has_next = walk.next(next);
  while (has_next) {
    const int row = next.row + consumer * 64;
    const ConsumerTile tile{next.expert, row, next.col_tile < args.col_tiles ? next.end - row : 0,
                            next.col_tile};
    const bool has_rows = tile.rows > 0;
    if (has_rows) epilogue.begin(tile);
    const int last = multiply_tile<Major::depth, P::kMajor>(ring, position, consumer, steps,
                                                            has_rows, sums, [&] {
                                                              if (has_rows) epilogue.prefetch(tile);
                                                            });
    has_next = walk.next(next);  // its divisions take place under the last products
    wait_products<0>();
    ring.release(last);
    if (has_rows) epilogue.run(tile, sums);
  }
  epilogue.finish();
}

template <class P>
__global__ void __launch_bounds__(kThreads, 1)
    row_product_kernel(const __grid_constant__ typename P::Args args) {
  // Without other shared memory it starts at a multiple of 1024, as swizzled tiles must.
  extern __shared__ __align__(1024) unsigned char memory[];
  const std::uint32_t shared = shared_address(memory);
  const typename P::Ring ring(shared, shared + P::kBarriersAt);
  ExpertTables& tables = *reinterpret_cast<ExpertTables*>(memory + P::kTablesAt);
  if (threadIdx.x < kWarp) tables.build(args.expert_offsets, args.num_experts, args.col_tiles);
  if (threadIdx.x == kWarp) {
    ring.init(P::kGathers ? kWarpgroup + 1 : 1);
    for (int i = 0; i < kConsumers * 2; ++i)
      init_barrier(shared + P::kBarriersAt + P::Ring::kBarrierBytes + i * 8, 1);
    publish_barriers();
    prefetch_map(args.weight);
    if (!P::kGathers) prefetch_map(args.left);
  }
  __syncthreads();
  sync_cluster();
  const int warpgroup = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
  if (warpgroup == 0) {
    if constexpr (P::kGathers) {
      shrink_registers<56>();
      load_by_rows<P>(args, ring, tables);
    } else {
      shrink_registers<40>();
      if (threadIdx.x == 0) load_by_boxes<P>(args, ring, tables);
    }
  } else {
    grow_registers<P::kGathers ? 224 : 232>();
    consume<P>(args, ring, tables, warpgroup - 1, shared);
  }
  sync_cluster();  // the other block may still write here
}

}  // namespace smoe::kernels::cuda::hopper
