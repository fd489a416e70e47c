// GEMM of routed rows with their expert's weight by wgmma, the body of grouped_gemm, expert_up and
// expert_down_backward.
//
// Tile:        128 x 256 x 64, one persistent block per SM, clusters of 2 blocks, 384 threads.
// Warp roles:  warpgroup 0 produces: A by TMA (grouped rows) or gathered by cp.async by warps of
//              their own, the weight by TMA, multicast where both blocks have the same columns;
//              warpgroups 1 and 2 consume 64 rows of A each and run the epilogue independently of
//              each other, whose stores may be left to a warp of the producer.
// Registers:   producer 40 (TMA) or 56 (gather), consumers 232 or 224 each.
// Schedule:    a warp of block 0's producer takes the cluster's tiles from a counter and publishes
//              each while the one before it is loaded (tile_scheduler.cuh). Where A is gathered it
//              is the warp that loads the weight.
// Shared:      SharedLayout: pipeline stages of 48 KiB, epilogue memory per consumer, mbarriers,
//              tile queue.
#pragma once
#include <cstddef>

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/row_index.cuh"
#include "kernels/cuda/experts/sm90/tensor_map.cuh"
#include "kernels/cuda/experts/sm90/tile_scheduler.cuh"

namespace smoe::kernels::cuda::sm90 {

/// What the columns of a tile are in an expert's weight: 256 rows, 128 rows of its GLU half and the
/// same rows of its up half, or 256 columns.
enum class WeightTile { rows, glu_up_rows, columns };

/// A consumer's 64 rows of a tile.
struct ConsumerTile {
  int expert;
  int row;       ///< the first grouped row
  int num_rows;  ///< from there to the expert's end: may exceed 64, or be zero or less
  int col_tile;
};

__device__ inline ConsumerTile consumer_tile(const ScheduleArgs& schedule, const TileCoord& tile,
                                             int consumer) {
  const int row = tile.row + consumer * 64;
  return {tile.expert, row, tile.col_tile < schedule.col_tiles ? tile.row_end - row : 0,
          tile.col_tile};
}

constexpr int kEpilogueBarriers = 4;  // per consumer

template <class Pipeline, class Epilogue>
struct SharedLayout {
  unsigned char stages[Pipeline::kBytes];
  unsigned char epilogue[kNumConsumers][Epilogue::kBytes];
  std::uint64_t pipeline_barriers[Pipeline::kNumBarriers];
  std::uint64_t epilogue_barriers[kNumConsumers][kEpilogueBarriers];
  alignas(16) unsigned char tile_queue[TileQueue<kClusterSize>::kBytes];
  SearchedExperts searched_experts;
};

/// Arguments of a GEMM that always gathers the rows of A.
template <class Epilogue>
struct GatheringGemmArgs {
  CUtensorMap weight;
  ScheduleArgs schedule;
  int k;
  const Bf16* rows;
  std::uint32_t row_bytes;
  RowIndex index;
  typename Epilogue::Args epilogue;
};

/// An epilogue is constructed per consumer, with kBytes of shared memory aligned to 1024 and
/// kEpilogueBarriers mbarriers, and called per tile that has rows: begin before the mainloop,
/// prefetch once the first wgmmas are issued, store with the accumulators. finish waits for the
/// last stores. One with kHasStorer leaves its stores to a warp that calls Storer::store per tile.
template <bool kGathers_, WeightTile kWeightTile_, int kStages, class Epilogue_>
struct GroupedGemm {
  using Epilogue = Epilogue_;
  using Pipeline = sm90::Pipeline<kStages>;
  using Shared = SharedLayout<Pipeline, Epilogue>;
  static constexpr bool kGathers = kGathers_;
  static constexpr WeightTile kWeightTile = kWeightTile_;
  static constexpr Major kMajorB = kWeightTile == WeightTile::columns ? Major::mn : Major::k;
  /// Columns per tile: of each half if there are two.
  static constexpr int kTileCols = kWeightTile == WeightTile::glu_up_rows ? kBlockN / 2 : kBlockN;
  static constexpr int kSharedBytes = int{sizeof(Shared)};
  static_assert(kSharedBytes <= kMaxSharedBytes);
  using Queue = TileQueue<kClusterSize>;
  static constexpr int kGatherers = 64;  // threads
  static constexpr bool kHasStorer = requires { requires Epilogue::kHasStorer; };

  struct Args {
    CUtensorMap a = {};  // only if !kGathers
    CUtensorMap weight;
    ScheduleArgs schedule;
    int k;
    // Gathered rows.
    const Bf16* rows;
    std::uint32_t row_bytes;
    RowIndex index;
    typename Epilogue::Args epilogue;
  };
};

template <class P>
__device__ void load_weight(const typename P::Args& args, const typename P::Pipeline& pipeline,
                            int stage, const TileCoord& tile, int k, int rank) {
  const std::uint32_t to = pipeline.tile_b(stage), barrier = pipeline.full_barrier(stage);
  // With equal columns each block loads half of the boxes, for both.
  constexpr int kBoxes = P::kWeightTile == WeightTile::columns ? 4 : 2;
  const int begin = tile.is_multicast ? rank * kBoxes / 2 : 0;
  const int end = tile.is_multicast ? begin + kBoxes / 2 : kBoxes;
  for (int box = begin; box < end; ++box) {
    const std::uint32_t box_address = to + box * (kStageBytesB / kBoxes);
    TmaCoord at;
    if constexpr (P::kWeightTile == WeightTile::rows)
      at = {k, tile.col_tile * kBlockN + box * 128, tile.expert};
    else if constexpr (P::kWeightTile == WeightTile::glu_up_rows)
      at = {k, tile.col_tile * P::kTileCols, tile.expert * 2 + box};
    else
      at = {tile.col_tile * kBlockN + box * 64, k, tile.expert};
    tile.is_multicast ? tma_load_multicast(box_address, args.weight, barrier, at)
                      : tma_load(box_address, args.weight, barrier, at);
  }
}

/// Called by one warp. Rows past the expert's end belong to the next expert; their accumulators are
/// never stored.
template <class P>
__device__ void produce_by_tma(const typename P::Args& args, const typename P::Pipeline& pipeline,
                               const typename P::Queue& queue) {
  const int rank = cluster_rank();
  const bool loads = threadIdx.x % kWarp == 0;
  typename P::Pipeline::State state(1);
  for (int i = 0;; ++i) {
    const TileCoord tile = unpack_tile(queue.read(i));
    if (tile.is_end()) return;
    for (int k = 0; loads && k < args.k; k += kBlockK) {
      const int stage = state.stage();
      mbarrier_wait(pipeline.empty_barrier(stage), state.phase(), {"stage empty", stage});
      mbarrier_arrive_expect_tx(pipeline.full_barrier(stage), kStageBytesA + kStageBytesB);
      tma_load(pipeline.tile_a(stage), args.a, pipeline.full_barrier(stage), {k, tile.row, 0});
      load_weight<P>(args, pipeline, stage, tile, k, rank);
      state.advance();
    }
    __syncwarp();
  }
}

/// The rows of a tile's A of one of kGatherers threads: chunks of the rows row + kRowStep i.
template <int kGatherers>
class GatheredRows {
 public:
  static constexpr int kRowStep = kGatherers / 8;
  static_assert(kRowStep == 4 || kRowStep % 8 == 0);

  /// k tiles from one advance() to the next: their offsets are constants of the copies.
  static constexpr int kTilesPerAdvance = 4;

  /// Copies of rows past the expert's end are copies of its last row: their accumulators are never
  /// stored.
  template <class Args>
  __device__ GatheredRows(const Args& args, const TileCoord& tile, int row, int chunk) {
    std::int32_t ids[kRows];  // all loads first, so that their latencies overlap
#pragma unroll
    for (int i = 0; i < kRows; ++i)
      ids[i] = args.index.id(min(tile.row + row + kRowStep * i, tile.row_end - 1), tile.row_end);
#pragma unroll
    for (int i = 0; i < kRows; ++i)
      source_[i] = advance_rows(args.rows + chunk * 8, args.index.row_of(ids[i]), args.row_bytes);
  }
  /// Of rows at these addresses.
  __device__ GatheredRows(const Bf16* const (&rows)[kBlockM / kRowStep], int chunk) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) source_[i] = rows[i] + chunk * 8;
  }
  /// Copies the chunks of k tile k_tile after the last advance, or zeros unless is_in.
  __device__ void copy(std::uint32_t to, int k_tile, bool is_in) const {
    // A step of four rows alternates between the halves of the swizzle's eight rows.
    const std::uint32_t odd = kRowStep == 4 ? to ^ 64 : to;
#pragma unroll
    for (int i = 0; i < kRows; ++i)
      cp_async((i % 2 == 0 ? to : odd) + i * kRowStep * kRowBytes, source_[i] + k_tile * kBlockK,
               is_in);
  }
  __device__ void advance() {
#pragma unroll
    for (int i = 0; i < kRows; ++i) source_[i] += kTilesPerAdvance * kBlockK;
  }

 private:
  static constexpr int kRows = kBlockM / kRowStep;

  const Bf16* source_[kRows];
};

/// Calls f(k, its k tile after the last advance) for every k tile.
template <class Rows, class F>
__device__ void for_each_k_tile(Rows& rows, int k_end, F&& f) {
  for (int k = 0; k < k_end; rows.advance())
#pragma unroll
    for (int k_tile = 0; k_tile < Rows::kTilesPerAdvance; ++k_tile, k += kBlockK)
      if (k < k_end) f(k, k_tile);
}

/// Called by one warp of a gathering kernel: load(tile, k) of the weight by one thread, and in
/// cluster block 0 the schedule.
template <class P, class Load>
__device__ void produce_weight(const typename P::Args& args, const typename P::Queue& queue,
                               RowTileScheduler<kClusterSize> scheduler, Load&& load) {
  const bool schedules = cluster_rank() == 0;
  if (schedules) {
    scheduler.begin();
    scheduler.publish(0);
  }
  for (int i = 0;; ++i) {
    const TileCoord tile = unpack_tile(queue.read(i));
    if (tile.is_end()) return;
    for (int k = 0; k < args.k; k += kBlockK) {
      if (threadIdx.x % kWarp == 0) load(tile, k);
      __syncwarp();
      if (k == 0 && schedules) scheduler.publish(i + 1);
    }
  }
}

/// Called by kGatherers threads; thread t copies chunk t % 8 of rows t / 8 + kRowStep i. Per stage
/// it calls copy(f), which calls f with the address of the stage's A.
template <class P, int kGatherers, class Queue, class Copy>
__device__ void gather(const typename P::Args& args, const Queue& queue, int thread, Copy&& copy) {
  const int chunk = thread % 8, row = thread / 8;
  const std::uint32_t target = swizzled_offset(row, chunk);
  for (int i = 0;; ++i) {
    const TileCoord tile = unpack_tile(queue.read(i));
    if (tile.is_end()) return;
    GatheredRows<kGatherers> source(args, tile, row, chunk);
    for_each_k_tile(source, args.k, [&](int k, int k_tile) {
      copy([&](std::uint32_t tile_a) {
        source.copy(tile_a + target, k_tile, k + chunk * 8 < args.k);
      });
    });
  }
}

/// Called by the producer warpgroup: warp 0 loads the weight, warps 1 to kGatherers / 32 gather.
template <class P, int kGatherers>
__device__ void produce_by_gather(const typename P::Args& args,
                                  const typename P::Pipeline& pipeline,
                                  const typename P::Queue& queue,
                                  const RowTileScheduler<kClusterSize>& scheduler) {
  typename P::Pipeline::State state(1);
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kWarp, 0);
  if (warp == 0) {
    const int rank = cluster_rank();
    produce_weight<P>(args, queue, scheduler, [&](const TileCoord& tile, int k) {
      const int stage = state.stage();
      mbarrier_wait(pipeline.empty_barrier(stage), state.phase(), {"stage empty", stage});
      mbarrier_arrive_expect_tx(pipeline.full_barrier(stage), kStageBytesB);
      load_weight<P>(args, pipeline, stage, tile, k, rank);
      state.advance();
    });
  } else if (warp <= kGatherers / kWarp) {
    gather<P, kGatherers>(args, queue, static_cast<int>(threadIdx.x) - kWarp, [&](auto&& copy) {
      const int stage = state.stage();
      mbarrier_wait(pipeline.empty_barrier(stage), state.phase(), {"stage empty", stage});
      copy(pipeline.tile_a(stage));
      cp_async_mbarrier_arrive(pipeline.full_barrier(stage));
      state.advance();
    });
  }
}

/// Called by one warp.
template <class P>
__device__ void run_storer(const typename P::Args& args, const typename P::Queue& queue,
                           std::uint32_t shared) {
  using Shared = typename P::Shared;
  typename P::Epilogue::Storer storer(args.epilogue, shared + int{offsetof(Shared, epilogue)},
                                      shared + int{offsetof(Shared, epilogue_barriers)});
  for (int i = 0;; ++i) {
    const TileCoord tile = unpack_tile(queue.read(i));
    if (tile.is_end()) return storer.finish();
    storer.store({consumer_tile(args.schedule, tile, 0), consumer_tile(args.schedule, tile, 1)});
  }
}

template <class P>
__device__ void consume(const typename P::Args& args, const typename P::Pipeline& pipeline,
                        const typename P::Queue& queue, int consumer, std::uint32_t shared) {
  using Shared = typename P::Shared;
  const int num_k_tiles = (args.k + kBlockK - 1) / kBlockK;
  typename P::Pipeline::State state(0);
  typename P::Epilogue epilogue(
      args.epilogue, consumer,
      shared + int{offsetof(Shared, epilogue)} + consumer * P::Epilogue::kBytes,
      shared + int{offsetof(Shared, epilogue_barriers)} + consumer * kEpilogueBarriers * 8);
  Accumulators acc;
  int i = 0;
  TileCoord next = unpack_tile(queue.read(i));
  while (!next.is_end()) {
    const ConsumerTile tile = consumer_tile(args.schedule, next, consumer);
    const bool has_rows = tile.num_rows > 0;
    if (has_rows) epilogue.begin(tile);
    const int last = mainloop<Major::k, P::kMajorB, P::kGathers>(pipeline, state, consumer,
                                                                 num_k_tiles, has_rows, acc, [&] {
                                                                   if (has_rows)
                                                                     epilogue.prefetch(tile);
                                                                 });
    next = unpack_tile(queue.read(++i));  // under the last wgmmas
    wgmma_wait<0>();
    pipeline.release(last);
    if (has_rows) epilogue.store(tile, acc);
  }
  epilogue.finish();
}

/// The kernel's body; `args` must be a __grid_constant__ parameter.
template <class P>
__device__ __forceinline__ void run_grouped_gemm(const typename P::Args& args) {
  using Shared = typename P::Shared;
  using Registers = RegisterSplit<P::kGathers ? 56 : 40, P::kGathers ? 224 : 232>;
  // Dynamic shared memory only, so that it starts at a multiple of 1024, as swizzled tiles require.
  extern __shared__ __align__(1024) unsigned char memory[];
  const std::uint32_t shared = shared_address(memory);
  const typename P::Pipeline pipeline(shared, shared + int{offsetof(Shared, pipeline_barriers)});
  const typename P::Queue queue(shared + int{offsetof(Shared, tile_queue)});
  // Prologue: the first tile's number by the scheduling warp, barriers by warp 1.
  constexpr int kSchedulingWarp = P::kGathers ? 0 : 2, kStoringWarp = 3;
  const int first_number = threadIdx.x == kSchedulingWarp * kWarp && cluster_rank() == 0
                               ? first_tile(args.schedule.tile_counter)
                               : 0;
  if (threadIdx.x == kWarp) {
    pipeline.init(P::kGathers ? P::kGatherers + 1 : 1);
    queue.init((P::kGathers ? 1 + P::kGatherers / kWarp : 1) + kNumConsumers * kWarpsPerGroup +
               P::kHasStorer);
    for (int i = 0; i < kNumConsumers * kEpilogueBarriers; ++i)
      mbarrier_init(shared + int{offsetof(Shared, epilogue_barriers)} + i * 8, 1);
    fence_barrier_init();
    prefetch_tensor_map(args.weight);
    if (!P::kGathers) prefetch_tensor_map(args.a);
  }
  if (!args.schedule.overlaps_preceding) follow_preceding_kernel();
  __syncthreads();
  cluster_sync();
  const int warpgroup = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
  if (warpgroup == 0) {
    setmaxnreg_dec<Registers::kProducer>();
    RowTileScheduler<kClusterSize> scheduler(
        args.schedule, queue, reinterpret_cast<Shared*>(memory)->searched_experts, first_number);
    if (P::kHasStorer && threadIdx.x / kWarp == kStoringWarp) {
      if constexpr (P::kHasStorer) run_storer<P>(args, queue, shared);
    } else if constexpr (P::kGathers) {
      produce_by_gather<P, P::kGatherers>(args, pipeline, queue, scheduler);
    } else if (threadIdx.x < kWarp) {
      produce_by_tma<P>(args, pipeline, queue);
    } else if (threadIdx.x / kWarp == kSchedulingWarp && cluster_rank() == 0) {
      scheduler.begin();
      for (int i = 0; scheduler.publish(i);) ++i;
    }
  } else {
    setmaxnreg_inc<Registers::kConsumer>();
    consume<P>(args, pipeline, queue, warpgroup - 1, shared);
  }
  cluster_sync();  // the other block may still write to this block's shared memory
  // No kernel ends before the preceding one: the next may depend on both.
  if (args.schedule.overlaps_preceding) wait_for_preceding_kernel();
}

}  // namespace smoe::kernels::cuda::sm90
