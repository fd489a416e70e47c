// GEMM of gathered rows with their expert's weight by wgmma, with epilogue warps: the consumer
// warpgroups write their accumulators to shared memory, rounded to bf16, and start the next tile
// while the epilogue warps process and store the last one.
//
// Tile:        as in grouped_wgmma.cuh.
// Warp roles:  warp 0 loads the weight by TMA and schedules, warp 1 gathers A by cp.async; warps 2
//              and 3 run the epilogues of both consumers; warpgroups 1 and 2 consume 64 rows of A
//              each.
// Registers:   producers and epilogue 104, consumers 200 each.
// Schedule:    as in grouped_wgmma.cuh.
// Shared:      pipeline stages of 48 KiB, 32 KiB of results per consumer, epilogue memory,
//              mbarriers, tile queue.
#pragma once
#include "kernels/cuda/experts/sm90/epilogue.cuh"
#include "kernels/cuda/experts/sm90/grouped_wgmma.cuh"

namespace smoe::kernels::cuda::sm90 {

constexpr int kProducers = 64, kEpilogueThreads = 64;

/// Synchronizes the epilogue threads, on the named barrier of the warpgroup that is not a consumer.
__device__ inline void epilogue_sync() {
  asm volatile("bar.sync %0, %1;" ::"n"(1 + kNumConsumers), "n"(kEpilogueThreads) : "memory");
}
__device__ inline int epilogue_thread() {
  return static_cast<int>(threadIdx.x) - kProducers;
}

/// An epilogue is constructed by the epilogue threads with kBytes of shared memory aligned to
/// 1024, and called per consumer and tile that has rows: begin while the results are computed, then
/// store with the address of the results, four 64 x 64 sub-tiles, whose memory may be overwritten
/// once it returns. finish waits for the last stores.
template <WeightTile kWeightTile_, int kStages, class Epilogue_>
struct HandoffGemm {
  using Epilogue = Epilogue_;
  using Pipeline = sm90::Pipeline<kStages>;
  using Queue = TileQueue<kClusterSize>;
  static constexpr WeightTile kWeightTile = kWeightTile_;
  static constexpr Major kMajorB = kWeightTile == WeightTile::columns ? Major::mn : Major::k;
  static constexpr int kTileCols = kWeightTile == WeightTile::glu_up_rows ? kBlockN / 2 : kBlockN;
  static constexpr int kGatherers = 32;  // threads
  static constexpr int kResultBytes = 4 * kSubtileBytes;

  struct Shared {
    unsigned char stages[Pipeline::kBytes];
    unsigned char results[kNumConsumers][kResultBytes];
    unsigned char epilogue[Epilogue::kBytes];
    std::uint64_t pipeline_barriers[Pipeline::kNumBarriers];
    std::uint64_t full_barriers[kNumConsumers], empty_barriers[kNumConsumers];  // of the results
    alignas(16) unsigned char tile_queue[Queue::kBytes];
    SearchedExperts searched_experts;
  };
  static constexpr int kSharedBytes = int{sizeof(Shared)};
  static_assert(kSharedBytes <= kMaxSharedBytes);

  using Args = GatheringGemmArgs<Epilogue>;

  // By address in shared memory.
  std::uint32_t shared;
  __device__ std::uint32_t results(int consumer) const {
    return shared + int{offsetof(Shared, results)} + consumer * kResultBytes;
  }
  __device__ std::uint32_t full_barrier(int consumer) const {
    return shared + int{offsetof(Shared, full_barriers)} + consumer * 8;
  }
  __device__ std::uint32_t empty_barrier(int consumer) const {
    return shared + int{offsetof(Shared, empty_barriers)} + consumer * 8;
  }
  __device__ Pipeline pipeline() const {
    return Pipeline(shared, shared + int{offsetof(Shared, pipeline_barriers)});
  }
  __device__ Queue queue() const { return Queue(shared + int{offsetof(Shared, tile_queue)}); }

  /// Called by one thread.
  __device__ void init() const {
    pipeline().init(kGatherers + 1);
    queue().init(kThreads / kWarp);
    for (int i = 0; i < kNumConsumers; ++i) {
      mbarrier_init(full_barrier(i), kWarpgroup);
      mbarrier_init(empty_barrier(i), kEpilogueThreads);
    }
  }

  /// Called by a consumer warpgroup.
  __device__ void consume(const Args& args, int consumer) const {
    const int num_k_tiles = (args.k + kBlockK - 1) / kBlockK;
    const Pipeline stages = pipeline();
    typename Pipeline::State state(0);
    std::uint32_t phase = 1;
    Accumulators acc;
    int i = 0;
    TileCoord next = unpack_tile(queue().read(i));
    while (!next.is_end()) {
      const bool has_rows = consumer_tile(args.schedule, next, consumer).num_rows > 0;
      const int last = mainloop<Major::k, kMajorB, true>(stages, state, consumer, num_k_tiles,
                                                         has_rows, acc, [] {});
      next = unpack_tile(queue().read(++i));  // under the last wgmmas
      wgmma_wait<0>();
      stages.release(last);
      if (!has_rows) continue;
      mbarrier_wait(empty_barrier(consumer), phase, {"results empty", consumer});
      phase ^= 1;
#pragma unroll
      for (int subtile = 0; subtile < 4; ++subtile)
        write_subtile(results(consumer) + subtile * kSubtileBytes, [&](int pair, int word) {
          const int j = accumulator_index(subtile, pair, word);
          return pack_bf16(acc[j], acc[j + 1]);
        });
      fence_proxy_async();
      mbarrier_arrive(full_barrier(consumer));
    }
  }

  /// Called by the epilogue threads.
  __device__ void run_epilogues(const Args& args) const {
    Epilogue epilogue(args.epilogue, shared + int{offsetof(Shared, epilogue)});
    std::uint32_t phases = 0;  // bit c: of consumer c's results
    for (int i = 0;; ++i) {
      const TileCoord tile = unpack_tile(queue().read(i));
      if (tile.is_end()) break;
      for (int consumer = 0; consumer < kNumConsumers; ++consumer) {
        const ConsumerTile part = consumer_tile(args.schedule, tile, consumer);
        if (part.num_rows <= 0) continue;
        epilogue.begin(part);
        mbarrier_wait(full_barrier(consumer), phases >> consumer & 1, {"results full", consumer});
        phases ^= 1u << consumer;
        epilogue.store(part, results(consumer));
        mbarrier_arrive(empty_barrier(consumer));
      }
    }
    epilogue.finish();
  }
};

/// The kernel's body; `args` must be a __grid_constant__ parameter.
template <class P>
__device__ __forceinline__ void run_handoff_gemm(const typename P::Args& args) {
  using Registers = RegisterSplit<104, 200>;
  extern __shared__ __align__(1024) unsigned char memory[];
  const P gemm{shared_address(memory)};
  // Prologue: the first tile's number by the scheduling warp, barriers by warp 1.
  const int first_number =
      threadIdx.x == 0 && cluster_rank() == 0 ? first_tile(args.schedule.tile_counter) : 0;
  if (threadIdx.x == kWarp) {
    gemm.init();
    fence_barrier_init();
    prefetch_tensor_map(args.weight);
  }
  follow_preceding_kernel();
  __syncthreads();
  cluster_sync();
  const int warpgroup = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
  if (warpgroup == 0) {
    setmaxnreg_dec<Registers::kProducer>();
    if (threadIdx.x < kProducers) {
      RowTileScheduler<kClusterSize> scheduler(
          args.schedule, gemm.queue(),
          reinterpret_cast<typename P::Shared*>(memory)->searched_experts, first_number);
      produce_by_gather<P, P::kGatherers>(args, gemm.pipeline(), gemm.queue(), scheduler);
    } else {
      gemm.run_epilogues(args);
    }
  } else {
    setmaxnreg_inc<Registers::kConsumer>();
    gemm.consume(args, warpgroup - 1);
  }
  cluster_sync();  // the other block may still write to this block's shared memory
}

}  // namespace smoe::kernels::cuda::sm90
