// The ring of stages between the warpgroup that loads and the two that multiply, and how it lies in
// shared memory: kStages times 128 left rows and 256 right ones, 64 deep.
#pragma once
#include "kernels/cuda/hopper/instructions.cuh"
#include "kernels/cuda/hopper/wgmma.cuh"

namespace smoe::kernels::cuda::hopper {

constexpr int kTileM = 128, kTileN = 256;
constexpr int kTileDepth = 64;
constexpr int kRowBytes = 128;               // of a tile in shared memory
constexpr int kBlockBytes = 64 * kRowBytes;  // 64 rows
constexpr int kLeftBytes = 2 * kBlockBytes, kRightBytes = 4 * kBlockBytes;
constexpr int kConsumers = 2;  // warpgroups that multiply, 64 left rows each
constexpr int kThreads = (1 + kConsumers) * kWarpgroup;
constexpr int kClusterSize = 2;
constexpr int kSharedLimit = 232448;  // of a block
constexpr int kMaxExperts = 240;      // whose tables fit beside the ring

/// Byte offset of 16-byte chunk `chunk` of row `row` in a swizzled tile.
__device__ inline std::uint32_t chunk_offset(int row, int chunk) {
  return row * kRowBytes + ((chunk ^ (row & 7)) << 4);
}

/// A position in a ring: a stage and the parity of its barrier's phase.
template <int kSize>
class RingPosition {
 public:
  /// Who waits for a stage to be free starts with parity 1: at first all are.
  __device__ explicit RingPosition(std::uint32_t parity) : parity_(parity) {}
  __device__ int stage() const { return stage_; }
  __device__ std::uint32_t parity() const { return parity_; }
  __device__ void next() {
    if (++stage_ < kSize) return;
    stage_ = 0;
    parity_ ^= 1;
  }

 private:
  int stage_ = 0;
  std::uint32_t parity_;
};

template <int kStages_>
class Pipeline {
 public:
  static constexpr int kStages = kStages_;
  static constexpr int kBytes = kStages * (kLeftBytes + kRightBytes);
  static constexpr int kBarrierBytes = 2 * kStages * 8;
  using Position = RingPosition<kStages>;

  /// `memory` at a multiple of 1024 bytes, `barriers` of 8.
  __device__ Pipeline(std::uint32_t memory, std::uint32_t barriers)
      : memory_(memory), barriers_(barriers) {}

  __device__ std::uint32_t left(int stage) const { return memory_ + stage * kLeftBytes; }
  __device__ std::uint32_t right(int stage) const {
    return memory_ + kStages * kLeftBytes + stage * kRightBytes;
  }
  __device__ std::uint32_t full(int stage) const { return barriers_ + stage * 8; }
  __device__ std::uint32_t empty(int stage) const { return barriers_ + (kStages + stage) * 8; }

  /// For one thread. `arrivals` at full(): how many fill a stage. A stage is empty when the
  /// consumers of both blocks are done with it, for each loads for both.
  __device__ void init(int arrivals) const {
    for (int i = 0; i < kStages; ++i) {
      init_barrier(full(i), arrivals);
      init_barrier(empty(i), kConsumers * kClusterSize);
    }
  }
  /// For all threads of a consumer.
  __device__ void release(int stage) const {
    if (threadIdx.x % kWarpgroup < kClusterSize)
      arrive_at(empty(stage), static_cast<int>(threadIdx.x % kWarpgroup));
  }

 private:
  std::uint32_t memory_, barriers_;
};

/// Begins a consumer's products over `steps` stages, at least one, into `sums`, and returns the
/// last stage, which is to be released after wait_products<0>(). It takes its turns even if it has
/// no rows and multiplies nothing. `between` runs once, when the first products are under way.
template <Major kLeft, Major kRight, class Pipeline, class Between>
__device__ int multiply_tile(const Pipeline& pipeline, typename Pipeline::Position& position,
                             int consumer, int steps, bool has_rows, WideSums& sums,
                             Between&& between) {
  const std::uint64_t left = describe_tile<kLeft>(pipeline.left(0) + consumer * kBlockBytes);
  const std::uint64_t right = describe_tile<kRight>(pipeline.right(0));
  int before = 0;
  for (int step = 0; step < steps; ++step) {
    const int stage = position.stage();
    wait(pipeline.full(stage), position.parity());
    fence_async();  // what copy_async wrote
    if (has_rows) {
      const std::uint64_t a = left + stage * (kLeftBytes >> 4);
      const std::uint64_t b = right + stage * (kRightBytes >> 4);
      begin_products();
#pragma unroll
      for (int k = 0; k < kTileDepth / 16; ++k)
        multiply_wide<kLeft, kRight>(sums, a + k * kSixteenDeep<kLeft>,
                                     b + k * kSixteenDeep<kRight>, (step | k) != 0);
      commit_products();
    } else {
      // Products keep the warps of a group together. Without, one warp could release a stage that
      // another has not seen filled, and would then wait for a phase that is over.
      sync_warpgroup(consumer);
    }
    if (step == 0) {
      between();
    } else {
      wait_products<1>();
      pipeline.release(before);
    }
    before = stage;
    position.next();
  }
  return before;
}

}  // namespace smoe::kernels::cuda::hopper
