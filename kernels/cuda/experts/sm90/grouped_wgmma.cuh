// GEMM of routed rows with their expert's weight by wgmma, the body of grouped_gemm, expert_up and
// expert_down_backward.
//
// Tile:        128 x 256 x 64, one persistent block per SM, clusters of 2 blocks, 384 threads.
// Warp roles:  warpgroup 0 produces: A by TMA (grouped rows) or gathered by cp.async, the weight by
//              TMA, multicast where both blocks have the same columns; warpgroups 1 and 2 consume
//              64 rows of A each and run the epilogue independently of each other.
// Registers:   producer 40 (TMA) or 56 (gather), consumers 232 or 224 each.
// Schedule:    a warp of block 0's producer takes the cluster's tiles from a counter and publishes
//              each while the one before it is loaded (tile_scheduler.cuh). With TMA it does
//              nothing else; with cp.async, which keeps all warps busy, it does so while it waits
//              for the gathered rows' ids.
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

/// An epilogue is constructed per consumer, with kBytes of shared memory aligned to 1024 and
/// kEpilogueBarriers mbarriers, and called per tile that has rows: begin before the mainloop,
/// prefetch once the first wgmmas are issued, store with the accumulators. finish waits for the
/// last stores.
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

/// A producer thread's rows of a tile's A: chunks of the rows row + 16 i.
class GatheredRows {
 public:
  /// Calls `meanwhile` while it waits for the rows' ids.
  template <class Args, class F>
  __device__ GatheredRows(const Args& args, const TileCoord& tile, int row, int chunk,
                          F&& meanwhile)
      // Rows past the expert's end are not copied: accumulators of stale rows are never stored.
      : num_copies_((min(tile.row_end - tile.row, kBlockM) - row + 15) / 16) {
    std::int32_t ids[kRows];  // all loads first, so that their latencies overlap
#pragma unroll
    for (int i = 0; i < kRows; ++i) ids[i] = args.index.id(tile.row + row + 16 * i, tile.row_end);
    meanwhile();
#pragma unroll
    for (int i = 0; i < kRows; ++i)
      source_[i] = advance_rows(args.rows + chunk * 8, args.index.row_of(ids[i]), args.row_bytes);
  }
  /// Zeros unless is_in.
  __device__ void copy(std::uint32_t to, int k, bool is_in) const {
#pragma unroll
    for (int i = 0; i < kRows; ++i)
      if (i < num_copies_) cp_async(to + i * 16 * kRowBytes, source_[i] + (is_in ? k : 0), is_in);
  }

 private:
  static constexpr int kRows = 8;

  const Bf16* source_[kRows];
  int num_copies_;
};

/// Called by the producer warpgroup; thread t copies chunk t % 8 of rows t / 8 + 16 i.
template <class P>
__device__ void produce_by_gather(const typename P::Args& args,
                                  const typename P::Pipeline& pipeline,
                                  const typename P::Queue& queue,
                                  RowTileScheduler<kClusterSize> scheduler) {
  const int thread = threadIdx.x % kWarpgroup, chunk = thread % 8, row = thread / 8;
  const std::uint32_t target = swizzled_offset(row, chunk);
  typename P::Pipeline::State state(1);
  // Asked again per tile, for want of registers.
  const auto schedules = [] { return threadIdx.x % kWarpgroup < kWarp && cluster_rank() == 0; };
  if (schedules()) {
    scheduler.begin();
    scheduler.publish(0);
  }
  for (int i = 0;; ++i) {
    const TileCoord tile = unpack_tile(queue.read(i));
    if (tile.is_end()) return;
    const GatheredRows source(args, tile, row, chunk, [&] {
      if (schedules()) scheduler.publish(i + 1);
    });
    const int rank = cluster_rank();  // per tile, for want of registers
    for (int k = 0; k < args.k; k += kBlockK) {
      const int stage = state.stage();
      mbarrier_wait(pipeline.empty_barrier(stage), state.phase(), {"stage empty", stage});
      if (thread == 0) {
        mbarrier_arrive_expect_tx(pipeline.full_barrier(stage), kStageBytesB);
        load_weight<P>(args, pipeline, stage, tile, k, rank);
      }
      source.copy(pipeline.tile_a(stage) + target, k, k + chunk * 8 < args.k);
      cp_async_mbarrier_arrive(pipeline.full_barrier(stage));
      state.advance();
    }
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
    const int row = next.row + consumer * 64;
    const ConsumerTile tile{next.expert, row,
                            next.col_tile < args.schedule.col_tiles ? next.row_end - row : 0,
                            next.col_tile};
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
  constexpr int kSchedulingWarp = P::kGathers ? 0 : 2;
  const int first_number = threadIdx.x == kSchedulingWarp * kWarp && cluster_rank() == 0
                               ? take_tile(args.schedule.tile_counter)
                               : 0;
  if (threadIdx.x == kWarp) {
    pipeline.init(P::kGathers ? kWarpgroup + 1 : 1);
    queue.init((P::kGathers ? kWarpsPerGroup : 1) + kNumConsumers * kWarpsPerGroup);
    for (int i = 0; i < kNumConsumers * kEpilogueBarriers; ++i)
      mbarrier_init(shared + int{offsetof(Shared, epilogue_barriers)} + i * 8, 1);
    fence_barrier_init();
    prefetch_tensor_map(args.weight);
    if (!P::kGathers) prefetch_tensor_map(args.a);
  }
  __syncthreads();
  cluster_sync();
  const int warpgroup = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
  if (warpgroup == 0) {
    setmaxnreg_dec<Registers::kProducer>();
    RowTileScheduler<kClusterSize> scheduler(
        args.schedule, queue, reinterpret_cast<Shared*>(memory)->searched_experts, first_number);
    if constexpr (P::kGathers) {
      produce_by_gather<P>(args, pipeline, queue, scheduler);
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
}

}  // namespace smoe::kernels::cuda::sm90
