// Shared-memory pipeline from the producer warpgroup to the two consumer warpgroups: kStages stages
// of A [128, 64] and B [256, 64], each with a full and an empty mbarrier; and the consumers'
// mainloop.
#pragma once
#include "kernels/cuda/experts/choose.h"
#include "kernels/cuda/experts/sm90/ptx.cuh"
#include "kernels/cuda/experts/sm90/wgmma.cuh"

namespace smoe::kernels::cuda::sm90 {

constexpr int kBlockM = kSm90Tile.m, kBlockN = kSm90Tile.n, kBlockK = kSm90Tile.k;
constexpr int kRowBytes = 128;                 // of a tile in shared memory: 64 bf16
constexpr int kSubtileBytes = 64 * kRowBytes;  // 64 x 64 bf16
constexpr int kStageBytesA = 2 * kSubtileBytes, kStageBytesB = 4 * kSubtileBytes;
constexpr int kNumConsumers = 2;  // warpgroups, 64 rows of A each
constexpr int kWarpsPerGroup = kWarpgroup / 32;
constexpr int kThreads = (1 + kNumConsumers) * kWarpgroup;
/// Registers per thread of the producer and of the consumers, by setmaxnreg. A block starts with
/// kLaunchRegisters per thread; setmaxnreg_inc would wait forever for more than that together.
template <int kProducer_, int kConsumer_>
struct RegisterSplit {
  static constexpr int kLaunchRegisters = 65536 / kThreads / 8 * 8;
  static constexpr int kProducer = kProducer_, kConsumer = kConsumer_;
  static_assert(kProducer + kNumConsumers * kConsumer <= (1 + kNumConsumers) * kLaunchRegisters);
};
constexpr int kClusterSize = 2;
constexpr int kMaxSharedBytes = 232448;  // per block

/// Byte offset of 16-byte chunk `chunk` of row `row` in a 128-byte-swizzled tile.
__device__ inline std::uint32_t swizzled_offset(int row, int chunk) {
  return row * kRowBytes + ((chunk ^ (row & 7)) << 4);
}

/// Stage of a circular pipeline and the parity of its barrier's phase.
template <int kStages>
class PipelineState {
 public:
  /// `phase` is 0 for a consumer and 1 for a producer, which finds all stages empty at first.
  __device__ explicit PipelineState(std::uint32_t phase) : phase_(phase) {}
  __device__ int stage() const { return stage_; }
  __device__ std::uint32_t phase() const { return phase_; }
  __device__ void advance() {
    if (++stage_ < kStages) return;
    stage_ = 0;
    phase_ ^= 1;
  }
  /// As num_stages calls of advance().
  __device__ void skip(int num_stages) {
    const int stage = stage_ + num_stages;
    stage_ = stage % kStages;
    phase_ ^= stage / kStages & 1;
  }

 private:
  int stage_ = 0;
  std::uint32_t phase_;
};

template <int kStages_>
class Pipeline {
 public:
  static constexpr int kStages = kStages_;
  static constexpr int kBytes = kStages * (kStageBytesA + kStageBytesB);
  static constexpr int kNumBarriers = 2 * kStages;
  using State = PipelineState<kStages>;

  /// `memory` must be aligned to 1024 bytes, `barriers` to 8.
  __device__ Pipeline(std::uint32_t memory, std::uint32_t barriers)
      : memory_(memory), barriers_(barriers) {}

  __device__ std::uint32_t tile_a(int stage) const { return memory_ + stage * kStageBytesA; }
  __device__ std::uint32_t tile_b(int stage) const {
    return memory_ + kStages * kStageBytesA + stage * kStageBytesB;
  }
  __device__ std::uint32_t full_barrier(int stage) const { return barriers_ + stage * 8; }
  __device__ std::uint32_t empty_barrier(int stage) const {
    return barriers_ + (kStages + stage) * 8;
  }

  /// Called by one thread. `producer_arrivals` fill a stage. The consumers of both cluster blocks
  /// empty it, because each block multicasts to both.
  __device__ void init(int producer_arrivals) const {
    for (int i = 0; i < kStages; ++i) {
      mbarrier_init(full_barrier(i), producer_arrivals);
      mbarrier_init(empty_barrier(i), kNumConsumers * kClusterSize);
    }
  }
  /// Called by all threads of a consumer.
  __device__ void release(int stage) const {
    if (threadIdx.x % kWarpgroup < kClusterSize)
      mbarrier_arrive_cluster(empty_barrier(stage), static_cast<int>(threadIdx.x % kWarpgroup));
  }

 private:
  std::uint32_t memory_, barriers_;
};

/// A consumer's mainloop: issues the wgmmas of num_k_tiles >= 1 stages into `acc` and returns the
/// last stage, which the caller releases after wgmma_wait<0>(). Consumes the stages even if
/// !has_rows, without issuing wgmmas. Calls `after_first` once, after issuing the first stage.
/// kGathers: the producer fills A by cp.async. What TMA writes needs no fence.
template <Major kMajorA, Major kMajorB, bool kGathers, class Pipeline, class AfterFirst>
__device__ int mainloop(const Pipeline& pipeline, typename Pipeline::State& state, int consumer,
                        int num_k_tiles, bool has_rows, Accumulators& acc,
                        AfterFirst&& after_first) {
  const std::uint64_t descriptor_a =
      make_smem_descriptor<kMajorA>(pipeline.tile_a(0) + consumer * kSubtileBytes);
  const std::uint64_t descriptor_b = make_smem_descriptor<kMajorB>(pipeline.tile_b(0));
  int previous = 0;
  for (int k_tile = 0; k_tile < num_k_tiles; ++k_tile) {
    const int stage = state.stage();
    // Before the next stage is awaited, because that may be late; meanwhile the tensor cores have
    // the other consumer's wgmmas.
    if (k_tile > 0) {
      wgmma_wait<0>();
      pipeline.release(previous);
    }
    mbarrier_wait(pipeline.full_barrier(stage), state.phase(), {"stage full", stage});
    if constexpr (kGathers) fence_proxy_async();  // makes cp.async writes visible to wgmma
    if (has_rows) {
      const std::uint64_t a = descriptor_a + stage * (kStageBytesA >> 4);
      const std::uint64_t b = descriptor_b + stage * (kStageBytesB >> 4);
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < kBlockK / 16; ++k)
        wgmma_m64n256k16<kMajorA, kMajorB>(acc, a + k * kDescriptorStep<kMajorA>,
                                           b + k * kDescriptorStep<kMajorB>, (k_tile | k) != 0);
      wgmma_commit();
    } else {
      // wgmma keeps the warps of a group together. Without it a warp could release a stage that
      // another warp has not seen full, which would then wait for a phase that has passed.
      warpgroup_sync(consumer);
    }
    if (k_tile == 0) after_first();
    previous = stage;
    state.advance();
  }
  return previous;
}

}  // namespace smoe::kernels::cuda::sm90
