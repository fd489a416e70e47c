// GEMM of gathered rows with their expert's weight by wgmma, ping-pong: for epilogues that take as
// long as the mainloop.
//
// Tile:        128 x 128 x 64, one persistent block per SM, 384 threads, no clusters. Compared with
//              grouped_wgmma.cuh a tile reads twice the bytes per FLOP, but the tensor cores stay
//              busy during epilogues.
// Warp roles:  warp 0 loads the weight's columns by TMA, warps 1 and 2 gather A by cp.async, warp 3
//              schedules and looks up the rows of A; warpgroups 1 and 2 take tiles alternately, and
//              their mainloops take turns: one runs its epilogue during the mainloop of the other.
// Registers:   producer 72, consumers 216.
// Schedule:    as in grouped_wgmma.cuh.
// Shared:      Shared: pipeline stages of 32 KiB, epilogue memory per consumer, mbarriers, tile
//              queue.
#pragma once
#include "kernels/cuda/experts/sm90/grouped_wgmma.cuh"
#include "kernels/cuda/experts/sm90/tile_rows.cuh"

namespace smoe::kernels::cuda::sm90 {

constexpr int kPingPongBlockN = kSm90PingPongTile.n;
static_assert(kSm90PingPongTile.m == kBlockM && kSm90PingPongTile.k == kBlockK);

/// Where more column tiles share a row of A, L2's rate is used up, and with one more stage in
/// flight it serves more sectors for the same tiles. Where fewer do, more of A comes from DRAM, and
/// that stage pays.
constexpr int kMaxColTilesOfEarlyRelease = 4;

/// Of the upper and the lower 64 rows of a tile.
using PingPongAccumulators = NarrowAccumulators[2];

/// An epilogue is constructed per consumer, with kBytes of shared memory aligned to 1024 and
/// kEpilogueBarriers mbarriers, and called per tile: begin before the consumer's turn, prefetch in
/// its turn before the mainloop, store with the accumulators. finish waits for the last stores.
template <int kStages_, class Epilogue_>
struct PingPongGemm {
  using Epilogue = Epilogue_;
  static constexpr int kStages = kStages_;
  using State = PipelineState<kStages>;
  using Queue = TileQueue<1>;
  static constexpr int kStageBytesB = 2 * kSubtileBytes;
  static constexpr int kGatherers = 64;  // threads
  static constexpr int kSchedulingWarp = 1 + kGatherers / kWarp;
  using Rows = TileRows<kGatherers / kWarp>;

  struct Shared {
    unsigned char stages_a[kStages][kStageBytesA];
    unsigned char stages_b[kStages][kStageBytesB];
    unsigned char epilogue[kNumConsumers][Epilogue::kBytes];
    std::uint64_t full_barriers[kStages], empty_barriers[kStages];
    std::uint64_t epilogue_barriers[kNumConsumers][kEpilogueBarriers];
    alignas(16) unsigned char tile_queue[Queue::kBytes];
    alignas(8) unsigned char tile_rows[Rows::kBytes];
    SearchedExperts searched_experts;
  };
  static constexpr int kSharedBytes = int{sizeof(Shared)};
  static_assert(kSharedBytes <= kMaxSharedBytes);

  using Args = GatheringGemmArgs<Epilogue>;

  // By address in shared memory.
  std::uint32_t shared;
  __device__ std::uint32_t tile_a(int stage) const { return shared + stage * kStageBytesA; }
  __device__ std::uint32_t tile_b(int stage) const {
    return shared + int{offsetof(Shared, stages_b)} + stage * kStageBytesB;
  }
  __device__ std::uint32_t full_barrier(int stage) const {
    return shared + int{offsetof(Shared, full_barriers)} + stage * 8;
  }
  __device__ std::uint32_t empty_barrier(int stage) const {
    return shared + int{offsetof(Shared, empty_barriers)} + stage * 8;
  }
  __device__ std::uint32_t epilogue_memory(int consumer) const {
    return shared + int{offsetof(Shared, epilogue)} + consumer * Epilogue::kBytes;
  }
  __device__ std::uint32_t epilogue_barriers(int consumer) const {
    return shared + int{offsetof(Shared, epilogue_barriers)} + consumer * kEpilogueBarriers * 8;
  }

  __device__ Queue tile_queue() const { return Queue(shared + int{offsetof(Shared, tile_queue)}); }
  __device__ Rows tile_rows() const { return Rows(shared + int{offsetof(Shared, tile_rows)}); }

  /// Called by one thread.
  __device__ void init() const {
    tile_queue().init(2 + kWarpsPerGroup);  // warps 0 and 3, one consumer
    tile_rows().init();
    for (int i = 0; i < kStages; ++i) {
      mbarrier_init(full_barrier(i), kGatherers + 1);
      mbarrier_init(empty_barrier(i), 1);
    }
    for (int consumer = 0; consumer < kNumConsumers; ++consumer)
      for (int i = 0; i < kEpilogueBarriers; ++i)
        mbarrier_init(epilogue_barriers(consumer) + i * 8, 1);
  }

  /// Called by the producer warpgroup.
  __device__ void produce(const Args& args, SearchedExperts& experts, int first_number) const {
    const Queue queue = tile_queue();
    State state(1);
    const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kWarp, 0);
    const int lane = threadIdx.x % kWarp;
    if (warp == 0)
      load_weight(args, queue, state, lane);
    else if (warp <= kGatherers / kWarp)
      gather_rows(args, state);
    else
      schedule(args, queue, experts, first_number, lane);
  }

  __device__ void consume(const Args& args, int consumer) const {
    const int num_k_tiles = (args.k + kBlockK - 1) / kBlockK;
    const bool releases_early = args.schedule.col_tiles <= kMaxColTilesOfEarlyRelease;
    const Queue queue = tile_queue();
    int i = consumer;
    State state(0);
    Epilogue epilogue(args.epilogue, consumer, epilogue_memory(consumer),
                      epilogue_barriers(consumer));
    PingPongAccumulators acc;
    if (consumer == 1) {
      state.skip(num_k_tiles);
      pass_turn(0);
    }
    for (;; i += kNumConsumers) {
      const TileCoord tile = unpack_tile(queue.read(i));
      if (tile.is_end()) break;
      epilogue.begin(tile);
      wait_turn(consumer);
      epilogue.prefetch();
      const int last = mainloop(state, num_k_tiles, releases_early, acc);
      pass_turn(1 - consumer);
      wgmma_wait<0>();
      release(last);
      state.skip(num_k_tiles);  // the other consumer's
      epilogue.store(tile, acc);
    }
    epilogue.finish();
  }

 private:
  __device__ void load_weight(const Args& args, const Queue& queue, State& state, int lane) const {
    for (int i = 0;; ++i) {
      const TileCoord tile = unpack_tile(queue.read(i));
      if (tile.is_end()) return;
      for (int k = 0; lane == 0 && k < args.k; k += kBlockK) {
        const int stage = state.stage();
        mbarrier_wait(empty_barrier(stage), state.phase(), {"stage empty", stage});
        mbarrier_arrive_expect_tx(full_barrier(stage), kStageBytesB);
        for (int subtile = 0; subtile < 2; ++subtile)
          tma_load(tile_b(stage) + subtile * kSubtileBytes, args.weight, full_barrier(stage),
                   {tile.col_tile * kPingPongBlockN + subtile * 64, k, tile.expert});
        state.advance();
      }
      __syncwarp();
    }
  }

  __device__ void gather_rows(const Args& args, State& state) const {
    using Gathered = GatheredRows<kGatherers>;
    const int thread = static_cast<int>(threadIdx.x) - kWarp, chunk = thread % 8, row = thread / 8;
    const std::uint32_t target = swizzled_offset(row, chunk);
    const Bf16* source[kBlockM / Gathered::kRowStep];
    for (int i = 0; tile_rows().template read<Gathered::kRowStep>(i, row, source); ++i) {
      Gathered rows(source, chunk);
      for_each_k_tile(rows, args.k, [&](int k, int k_tile) {
        const int stage = state.stage();
        mbarrier_wait(empty_barrier(stage), state.phase(), {"stage empty", stage});
        rows.copy(tile_a(stage) + target, k_tile, k + chunk * 8 < args.k);
        cp_async_mbarrier_arrive(full_barrier(stage));
        state.advance();
      });
    }
  }

  // Takes a tile when the one before it begins to be gathered, and looks up its rows.
  __device__ void schedule(const Args& args, const Queue& queue, SearchedExperts& experts,
                           int first_number, int lane) const {
    RowTileScheduler<1> scheduler(args.schedule, queue, experts, first_number);
    scheduler.begin();
    for (int i = 0;; ++i) {
      tile_rows().wait_until_read_before(i);
      scheduler.publish(i);
      const TileCoord tile = unpack_tile(queue.read(i));
      std::int32_t ids[kBlockM / kWarp];  // all loads first
#pragma unroll
      for (int j = 0; j < kBlockM / kWarp; ++j) {
        const int row = tile.row + lane + kWarp * j;
        ids[j] = tile.is_end() ? 0 : args.index.id(min(row, tile.row_end - 1), tile.row_end);
      }
      tile_rows().publish([&](int j) {
        return tile.is_end() ? nullptr
                             : advance_rows(args.rows, args.index.row_of(ids[j]), args.row_bytes);
      });
      if (tile.is_end()) {
        scheduler.publish(i + 1);  // to the other consumer
        return;
      }
    }
  }

  __device__ void release(int stage) const {
    if (threadIdx.x % kWarpgroup == 0) mbarrier_arrive(empty_barrier(stage));
  }

  /// As sm90::mainloop. releases_early: a stage is given back before the next one is awaited.
  __device__ int mainloop(State& state, int num_k_tiles, bool releases_early,
                          PingPongAccumulators& acc) const {
    const std::uint64_t descriptor_a = make_smem_descriptor<Major::k>(tile_a(0));
    const std::uint64_t descriptor_b = make_smem_descriptor<Major::mn>(tile_b(0));
    int previous = 0;
    for (int k_tile = 0; k_tile < num_k_tiles; ++k_tile) {
      const int stage = state.stage();
      if (k_tile > 0 && releases_early) {
        wgmma_wait<0>();
        release(previous);
      }
      mbarrier_wait(full_barrier(stage), state.phase(), {"stage full", stage});
      fence_proxy_async();  // makes cp.async writes visible to wgmma
      const std::uint64_t a = descriptor_a + stage * (kStageBytesA >> 4);
      const std::uint64_t b = descriptor_b + stage * (kStageBytesB >> 4);
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < kBlockK / 16; ++k)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          wgmma_m64n128k16<Major::k, Major::mn>(
              acc[half], a + half * (kSubtileBytes >> 4) + k * kDescriptorStep<Major::k>,
              b + k * kDescriptorStep<Major::mn>, (k_tile | k) != 0);
      wgmma_commit();
      if (k_tile > 0 && !releases_early) {
        wgmma_wait<1>();
        release(previous);
      }
      previous = stage;
      state.advance();
    }
    return previous;
  }
};

/// The kernel's body; `args` must be a __grid_constant__ parameter.
template <class P>
__device__ __forceinline__ void run_pingpong_gemm(const typename P::Args& args) {
  using Registers = RegisterSplit<72, 216>;
  extern __shared__ __align__(1024) unsigned char memory[];
  const P gemm{shared_address(memory)};
  // Prologue: the first tile by the scheduling warp, barriers by warp 1.
  const int first_number =
      threadIdx.x == P::kSchedulingWarp * kWarp ? first_tile(args.schedule.tile_counter) : 0;
  if (threadIdx.x == kWarp) {
    gemm.init();
    fence_barrier_init();
    prefetch_tensor_map(args.weight);
  }
  follow_preceding_kernel();
  __syncthreads();
  const int warpgroup = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
  if (warpgroup == 0) {
    setmaxnreg_dec<Registers::kProducer>();
    gemm.produce(args, reinterpret_cast<typename P::Shared*>(memory)->searched_experts,
                 first_number);
  } else {
    setmaxnreg_inc<Registers::kConsumer>();
    gemm.consume(args, warpgroup - 1);
  }
}

}  // namespace smoe::kernels::cuda::sm90
