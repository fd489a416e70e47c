// Grouped GEMM by mma.sync and cp.async for compute capability 8.0 and later.
//
// Grid:      persistent blocks, kBlocksPerSm per SM; kWarpsM x kWarpsN warps with 64 x 64
//            accumulators each. Every warp both loads and multiplies.
// Pipeline:  kStages stages of 64 k, which continues across tiles: the first stages of the next
// tile
//            load while the epilogue of this one stores.
// Shared:    pipeline stages, then staging memory per warp for the epilogue; static: the schedule.
#pragma once
#include <algorithm>
#include <new>

#include "kernels/cuda/experts/forms.h"
#include "kernels/cuda/experts/sm80/operands.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda::sm80 {

/// A warp's accumulators: 4 x 8 fragments of [16, 8]; see mma_m16n8k16 for their layout.
using Accumulators = float[4][8][4];

template <int kWarpsM_, int kWarpsN_, int kStages_, int kBlocksPerSm_>
struct BlockShape {
  static constexpr int kWarpsM = kWarpsM_, kWarpsN = kWarpsN_;
  static constexpr int kStages = kStages_, kBlocksPerSm = kBlocksPerSm_;
  static constexpr int kTileM = kWarpsM * kWarpTile, kTileN = kWarpsN * kWarpTile;
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
  static constexpr int kStageBytes = (kTileM + kTileN) * kBlockK * int{sizeof(Bf16)};
};

using Block128x128 = BlockShape<2, 2, sm80_stages(kSm80Tile), 2>;
using Block128x256 = BlockShape<2, 4, sm80_stages(kSm80WideTile), 1>;

/// Which 64 x 64 part of a tile a warp computes.
struct WarpPosition {
  int m, n;
};

template <class Shape>
__device__ std::uint32_t next_stage(std::uint32_t stages, std::uint32_t stage) {
  stage += Shape::kStageBytes;
  return stage == stages + Shape::kStages * Shape::kStageBytes ? stages : stage;
}

/// An epilogue is constructed per warp, with its position and staging_bytes() of shared memory, and
/// called per tile of which the warp has rows: prefetch before the mainloop, whose cp.async copies
/// are complete when store is called with the accumulators.
template <class Shape_, class Scheduler_, class Left_, class Right_, class Epilogue_,
          bool kHalves_ = false>
struct GroupedGemm {
  using Shape = Shape_;
  using Scheduler = Scheduler_;
  using Left = Left_;
  using Right = Right_;
  using Epilogue = Epilogue_;
  static constexpr bool kHalves = kHalves_;
  /// Columns per tile: of each half if there are two.
  static constexpr int kTileCols = kHalves ? Shape::kTileN / 2 : Shape::kTileN;
  static constexpr int kStagingAt = Shape::kStages * Shape::kStageBytes;
  static constexpr int kSharedBytes =
      kStagingAt + Shape::kWarpsM * Shape::kWarpsN * Epilogue::staging_bytes();

  struct Args {
    typename Scheduler::Args scheduler;
    typename Left::Args left;
    typename Right::Args right;
    typename Epilogue::Args epilogue;
  };
};

/// The block's tiles in shared memory: one thread computes them, one ahead of the producer, and a
/// slot is kept until the warps are done with its tile. The producer is at most kStages - 1 tiles
/// ahead.
template <class P>
struct SharedSchedule {
  static constexpr int kSlots = P::Shape::kStages + 2;

  typename P::Scheduler scheduler;
  TileCoord tiles[kSlots];

  __device__ explicit SharedSchedule(const typename P::Args& args)
      : scheduler(args.scheduler, P::Shape::kTileM, P::kTileCols) {}

  /// Called by one thread; visible to the others after a barrier.
  __device__ void compute(int i) {
    if (!scheduler.next(tiles[i % kSlots])) tiles[i % kSlots].expert = -1;
  }
  __device__ const TileCoord& operator[](int i) const { return tiles[i % kSlots]; }
};

/// Loads the pipeline, kStages - 1 k tiles ahead of the mainloop. There is a barrier between two k
/// tiles.
template <class P>
class Producer {
 public:
  using Shape = typename P::Shape;
  static constexpr int kLeft = P::Left::kCount;
  static constexpr int kCopies = kLeft + P::Right::kCount;  // per thread and k tile

  __device__ Producer(const typename P::Args& args, SharedSchedule<P>& schedule,
                      std::uint32_t stages)
      : schedule_(schedule), left_(args.left), right_(args.right), stages_(stages), stage_(stages) {
    next_tile();
  }

  __device__ void begin_k_tile() {
    left_.begin_k_tile(k_, k_end_);
    right_.begin_k_tile(k_, k_end_);
  }
  /// After the last k tile it copies zeros that are never read.
  __device__ void copy(int i) const {
    if (i < kLeft)
      left_.load(i, k_, k_end_, stage_);
    else if (i < kCopies)
      right_.load(i - kLeft, k_, k_end_, stage_ + P::Left::Tile::kBytes);
  }
  /// Commits the copies of a k tile as one group.
  __device__ void finish_k_tile() {
    cp_async_commit();
    stage_ = next_stage<Shape>(stages_, stage_);
    k_ += kBlockK;
    if (k_ >= k_end_) next_tile();
  }

  __device__ void load_k_tile() {
    begin_k_tile();
#pragma unroll
    for (int i = 0; i < kCopies; ++i) copy(i);
    finish_k_tile();
  }

 private:
  __device__ void next_tile() {
    const TileCoord& tile = schedule_[tile_];
    k_ = k_end_ = 0;
    if (tile.is_end()) return;
    if (threadIdx.x == 0) schedule_.compute(tile_ + 1);
    ++tile_;
    k_ = tile.k_begin;
    k_end_ = tile.k_end;
    left_.begin_tile(tile);
    right_.begin_tile(tile);
  }

  SharedSchedule<P>& schedule_;
  typename P::Left left_;
  typename P::Right right_;
  std::uint32_t stages_, stage_;
  int tile_ = 0, k_ = 0, k_end_ = 0;
};

/// A warp's operand fragments of one k slice of 16.
struct Fragments {
  std::uint32_t left[4][4], right[4][4];
};

/// Loads fragments from a stage, one ldmatrix at a time, in the order in which the mma need them.
template <class P>
class FragmentLoader {
 public:
  static constexpr int kLoads = 8;

  __device__ explicit FragmentLoader(const WarpPosition& warp) : left_(warp.m), right_(warp.n) {}

  __device__ void load(int i, std::uint32_t stage, int kk, Fragments& to) const {
    constexpr int kBlock[kLoads] = {0, 0, 1, 2, 3, 1, 2, 3};
    if (i == 0 || i > 4)
      left_.load(stage, kk, kBlock[i], to.left[kBlock[i]]);
    else
      right_.load(stage + P::Left::Tile::kBytes, kk, kBlock[i], to.right[kBlock[i]]);
  }
  __device__ void load_all(std::uint32_t stage, int kk, Fragments& to) const {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) load(i, stage, kk, to);
  }

 private:
  OperandFragments<typename P::Left::Tile, true> left_;
  OperandFragments<typename P::Right::Tile, false, P::kHalves> right_;
};

/// A warp's 32 mma of one k slice; calls before(n) ahead of the n-th.
template <class F>
__device__ void mma_k16(const Fragments& x, Accumulators& acc, F&& before) {
#pragma unroll
  for (int n = 0; n < 32; ++n) {
    before(n);
    const int i = n / 8, j = n % 8;
    mma_m16n8k16(acc[i][j], x.left[i], x.right[j / 2][j % 2 * 2], x.right[j / 2][j % 2 * 2 + 1]);
  }
}

/// The kernel's body; `args` must be a __grid_constant__ parameter.
template <class P>
__device__ __forceinline__ void run_grouped_gemm(const typename P::Args& args) {
  using Shape = typename P::Shape;
  extern __shared__ __align__(1024) unsigned char shared[];
  __shared__ alignas(SharedSchedule<P>) unsigned char schedule_memory[sizeof(SharedSchedule<P>)];
  SharedSchedule<P>& schedule = *reinterpret_cast<SharedSchedule<P>*>(schedule_memory);
  if (threadIdx.x == 0) (new (&schedule) SharedSchedule<P>(args))->compute(0);
  __syncthreads();

  const std::uint32_t stages = shared_address(shared);
  const int warp = threadIdx.x / 32;
  const WarpPosition at{warp % Shape::kWarpsM, warp / Shape::kWarpsM};
  const FragmentLoader<P> loader(at);
  typename P::Epilogue epilogue(args.epilogue, at,
                                shared + P::kStagingAt + warp * P::Epilogue::staging_bytes());
  Producer<P> producer(args, schedule, stages);
  // Prologue.
#pragma unroll
  for (int i = 0; i + 1 < Shape::kStages; ++i) {
    __syncthreads();
    producer.load_k_tile();
  }
  // Waits for the copies of a k tile, and until all threads have read the one before.
  const auto wait_for_k_tile = [] {
    cp_async_wait<Shape::kStages - 2>();
    __syncthreads();
  };

  std::uint32_t stage = stages;
  Fragments fragments[2];  // double-buffered: one loads while the other multiplies
  for (int tile = 0; !schedule[tile].is_end(); ++tile) {
    Accumulators acc = {};
    const int num_k_tiles = schedule[tile].num_k_tiles(kBlockK);
    // A warp without rows multiplies zeros.
    const bool has_rows = schedule[tile].m_begin + at.m * kWarpTile < schedule[tile].m_end;
    if (has_rows) epilogue.prefetch(schedule[tile]);
    wait_for_k_tile();
    loader.load_all(stage, 0, fragments[0]);
    for (int k_tile = 1; k_tile <= num_k_tiles; ++k_tile) {
      constexpr int kSlices = kBlockK / 16;
      constexpr int kCopiesPerSlice = (Producer<P>::kCopies + 2) / 3;
      producer.begin_k_tile();
#pragma unroll
      for (int kk = 0; kk + 1 < kSlices; ++kk) {
        // Interleaves fragment loads with the first 16 mma and copies with the others.
        mma_k16(fragments[kk % 2], acc, [&](int n) {
          if (n < 16 && n % 2 == 0) loader.load(n / 2, stage, kk + 1, fragments[(kk + 1) % 2]);
          constexpr int kEvery = 16 / kCopiesPerSlice;
          if (n >= 16 && n % kEvery == 0 && (n - 16) / kEvery < kCopiesPerSlice)
            producer.copy(kk * kCopiesPerSlice + (n - 16) / kEvery);
        });
      }
      producer.finish_k_tile();
      stage = next_stage<Shape>(stages, stage);
      mma_k16(fragments[(kSlices - 1) % 2], acc, [&](int n) {
        if (n != 8 || k_tile == num_k_tiles) return;
        wait_for_k_tile();
        loader.load_all(stage, 0, fragments[0]);
      });
    }
    if (has_rows) epilogue.store(schedule[tile], acc);
  }
}

/// Launches as many persistent blocks as are resident at a time. `kernel` runs P.
template <class P>
void launch_persistent(const Launch& launch, const char* op, const ExpertGemmConfig& config,
                       void (*kernel)(typename P::Args), const typename P::Args& args) {
  using Shape = typename P::Shape;
  if (config.max_tiles == 0) return;
  CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, P::kSharedBytes));
  const std::int64_t resident = device_limits(launch).num_sms * Shape::kBlocksPerSm;
  const auto blocks = static_cast<unsigned>(std::min(config.max_tiles, resident));
  kernel<<<blocks, Shape::kThreads, P::kSharedBytes, stream_of(launch)>>>(args);
  check_launch(op);
}

/// Calls f(BlockShape{}) for the chosen tile.
template <class F>
void dispatch_tile(const ExpertGemmConfig& config, F&& f) {
  config.tile.n == kSm80WideTile.n ? f(Block128x256{}) : f(Block128x128{});
}

}  // namespace smoe::kernels::cuda::sm80
