// The portable tensor-core product: c = a b over the tiles of a walk, mma.sync fed by cp.async
// through a ring of stages. Blocks are persistent and the ring runs on across tiles, so that the
// next tile's first stages arrive while this one's epilogue writes.
#pragma once
#include <new>

#include "kernels/cuda/grouped/tensor_operands.cuh"

namespace smoe::kernels::cuda {

/// A warp's sums: 4 x 8 products of [16, 8]. See multiply_add for who holds what.
using Sums = float[4][8][4];

/// kWarpsM x kWarpsN warps of 64 x 64 each, kStages of the ring, kBlocks resident on a
/// multiprocessor.
template <int kWarpsM_, int kWarpsN_, int kStages_, int kBlocks_>
struct TensorShape {
  static constexpr int kWarpsM = kWarpsM_, kWarpsN = kWarpsN_;
  static constexpr int kStages = kStages_, kBlocks = kBlocks_;
  static constexpr int kTileM = kWarpsM * kWarpTile, kTileN = kWarpsN * kWarpTile;
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
  static constexpr int kStageBytes = (kTileM + kTileN) * kDepth * int{sizeof(Bf16)};
};

/// Which 64 x 64 part of a tile a warp holds.
struct WarpPosition {
  int m, n;
};

template <class Shape>
__device__ std::uint32_t next_stage(std::uint32_t ring, std::uint32_t stage) {
  stage += Shape::kStageBytes;
  return stage == ring + Shape::kStages * Shape::kStageBytes ? ring : stage;
}

/// One product: its shape, walk, operands and epilogue. Each warp has an epilogue, made with its
/// position and staging_bytes() of shared memory of its own, and calls it for each tile of which it
/// has rows: prefetch(work) before the product, whose copies have arrived by run(work, sums).
template <class Shape_, class Walk_, class Left_, class Right_, class Epilogue_,
          bool kHalves_ = false>
struct TensorProduct {
  using Shape = Shape_;
  using Walk = Walk_;
  using Left = Left_;
  using Right = Right_;
  using Epilogue = Epilogue_;
  static constexpr bool kHalves = kHalves_;
  /// Columns a tile advances by: of each half, if its columns come in halves.
  static constexpr int kTileN = kHalves ? Shape::kTileN / 2 : Shape::kTileN;
  static constexpr int kSharedBytes = Shape::kStages * Shape::kStageBytes +
                                      Shape::kWarpsM * Shape::kWarpsN * Epilogue::staging_bytes();

  struct Args {
    typename Walk::Args walk;
    typename Left::Args left;
    typename Right::Args right;
    typename Epilogue::Args epilogue;
  };
};

/// The block's tiles in shared memory: found by one thread, one ahead of the feeder, and kept until
/// the warps that multiply are done with them. The feeder is at most kStages - 1 tiles ahead.
template <class P>
struct Schedule {
  static constexpr int kSize = P::Shape::kStages + 2;

  typename P::Walk walk;
  Work works[kSize];

  __device__ explicit Schedule(const typename P::Args& args)
      : walk(args.walk, P::Shape::kTileM, P::kTileN) {}

  /// For one thread; the others may read it after a barrier.
  __device__ void find(int i) {
    if (!walk.next(works[i % kSize])) works[i % kSize].expert = -1;
  }
  __device__ const Work& operator[](int i) const { return works[i % kSize]; }
};

/// Fills the ring, kStages - 1 steps ahead of the warps that multiply. Between two steps lies a
/// barrier.
template <class P>
class Feeder {
 public:
  using Shape = typename P::Shape;
  static constexpr int kLeft = P::Left::kCount;
  static constexpr int kCopies = kLeft + P::Right::kCount;  // of a thread in a step

  __device__ Feeder(const typename P::Args& args, Schedule<P>& schedule, std::uint32_t ring)
      : schedule_(schedule), left_(args.left), right_(args.right), ring_(ring), stage_(ring) {
    next_work();
  }

  __device__ void begin_step() {
    left_.begin_step(k_, k_end_);
    right_.begin_step(k_, k_end_);
  }
  /// After the last step, copies of zeros that nobody reads.
  __device__ void copy(int i) const {
    if (i < kLeft)
      left_.load(i, k_, k_end_, stage_);
    else if (i < kCopies)
      right_.load(i - kLeft, k_, k_end_, stage_ + P::Left::Tile::kBytes);
  }
  /// A step's copies are a group.
  __device__ void finish_step() {
    commit_copies();
    stage_ = next_stage<Shape>(ring_, stage_);
    k_ += kDepth;
    if (k_ >= k_end_) next_work();
  }

  __device__ void load_step() {
    begin_step();
#pragma unroll
    for (int i = 0; i < kCopies; ++i) copy(i);
    finish_step();
  }

 private:
  __device__ void next_work() {
    const Work& work = schedule_[tile_];
    k_ = k_end_ = 0;
    if (work.is_end()) return;
    if (threadIdx.x == 0) schedule_.find(tile_ + 1);
    ++tile_;
    k_ = work.k_begin;
    k_end_ = work.k_end;
    left_.start(work);
    right_.start(work);
  }

  Schedule<P>& schedule_;
  typename P::Left left_;
  typename P::Right right_;
  std::uint32_t ring_, stage_;
  int tile_ = 0, k_ = 0, k_end_ = 0;
};

/// A warp's fragments of 16 of the sum.
struct Fragments {
  std::uint32_t left[4][4], right[4][4];
};

/// Reads fragments from a stage, a matrix at a time: those first that the first products need.
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
  FragmentReader<typename P::Left::Tile, true> left_;
  FragmentReader<typename P::Right::Tile, false, P::kHalves> right_;
};

/// The 32 products of a warp for 16 of the sum; between(n) runs before the n-th.
template <class F>
__device__ void multiply(const Fragments& x, Sums& sums, F&& between) {
#pragma unroll
  for (int n = 0; n < 32; ++n) {
    between(n);
    const int i = n / 8, j = n % 8;
    multiply_add(sums[i][j], x.left[i], x.right[j / 2][j % 2 * 2], x.right[j / 2][j % 2 * 2 + 1]);
  }
}

template <class P>
__global__ void __launch_bounds__(P::Shape::kThreads, P::Shape::kBlocks)
    tensor_product_kernel(const __grid_constant__ typename P::Args args) {
  using Shape = typename P::Shape;
  extern __shared__ __align__(1024) unsigned char shared[];
  __shared__ alignas(Schedule<P>) unsigned char schedule_memory[sizeof(Schedule<P>)];
  Schedule<P>& schedule = *reinterpret_cast<Schedule<P>*>(schedule_memory);
  if (threadIdx.x == 0) (new (&schedule) Schedule<P>(args))->find(0);
  __syncthreads();

  const std::uint32_t ring = shared_address(shared);
  const int warp = threadIdx.x / 32;
  const WarpPosition at{warp % Shape::kWarpsM, warp / Shape::kWarpsM};
  const FragmentLoader<P> loader(at);
  typename P::Epilogue epilogue(
      args.epilogue, at,
      shared + Shape::kStages * Shape::kStageBytes + warp * P::Epilogue::staging_bytes());
  Feeder<P> feeder(args, schedule, ring);
#pragma unroll
  for (int i = 0; i + 1 < Shape::kStages; ++i) {
    __syncthreads();
    feeder.load_step();
  }
  // Waits for a step's copies. Whoever passes has read all of the step before.
  const auto wait_for_step = [] {
    wait_copies<Shape::kStages - 2>();
    __syncthreads();
  };

  std::uint32_t stage = ring;
  Fragments fragments[2];  // the next ones arrive while these multiply
  for (int tile = 0; !schedule[tile].is_end(); ++tile) {
    Sums sums = {};
    const int steps = schedule[tile].steps(kDepth);
    // A warp without a row multiplies zeros.
    const bool has_rows = schedule[tile].m_begin + at.m * kWarpTile < schedule[tile].m_end;
    if (has_rows) epilogue.prefetch(schedule[tile]);
    wait_for_step();
    loader.load_all(stage, 0, fragments[0]);
    for (int step = 1; step <= steps; ++step) {
      constexpr int kParts = kDepth / 16, kCopiesOfPart = (Feeder<P>::kCopies + 2) / 3;
      feeder.begin_step();
#pragma unroll
      for (int kk = 0; kk + 1 < kParts; ++kk) {
        // Fragments with the first products, copies with the others.
        multiply(fragments[kk % 2], sums, [&](int n) {
          if (n < 16 && n % 2 == 0) loader.load(n / 2, stage, kk + 1, fragments[(kk + 1) % 2]);
          constexpr int kEvery = 16 / kCopiesOfPart;
          if (n >= 16 && n % kEvery == 0 && (n - 16) / kEvery < kCopiesOfPart)
            feeder.copy(kk * kCopiesOfPart + (n - 16) / kEvery);
        });
      }
      feeder.finish_step();
      stage = next_stage<Shape>(ring, stage);
      multiply(fragments[(kParts - 1) % 2], sums, [&](int n) {
        if (n != 8 || step == steps) return;
        wait_for_step();
        loader.load_all(stage, 0, fragments[0]);
      });
    }
    if (has_rows) epilogue.run(schedule[tile], sums);
  }
}

}  // namespace smoe::kernels::cuda
