// CopyQueue: reads ahead from global into shared memory, so that memory is busy while a thread
// block computes on what has arrived. Each thread reads only what it has copied itself, so no
// barrier is needed.
#pragma once
#include <cuda_pipeline.h>

#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {

/// kNumSlots copies for each thread of a block, each of kChunks times kWidth elements of T; the
/// oldest is taken first.
template <int kBlockThreads, int kNumSlots, int kChunks, class T>
class CopyQueue {
 public:
  static constexpr int kSlots = kNumSlots;

  /// In shared memory; what all threads read in one access stands together.
  struct Slots {
    alignas(16) T elements[kSlots][kChunks][kBlockThreads][kWidth];
  };

  /// Call replace() kSlots times before the first wait().
  __device__ explicit CopyQueue(Slots& slots) : slots_(slots) {}

  /// Waits until the oldest copy and kLater after it are there.
  template <int kLater = 0>
  __device__ void wait() const {
    asm volatile("cp.async.wait_group %0;" ::"n"(kSlots - 1 - kLater) : "memory");
  }

  /// A chunk of the oldest copy or of that `later` after it, after wait().
  __device__ const T* chunk(int i = 0, int later = 0) const {
    const int slot = front_ + later;
    return slots_.elements[slot < kSlots ? slot : slot - kSlots][i][threadIdx.x];
  }

  /// Replaces the oldest copy. Chunk i is copied from source(i), which is aligned to 16 bytes,
  /// unless that is null.
  template <class F>
  __device__ void replace(const F& source) {
    constexpr int kPerAccess = 16 / int{sizeof(T)};
#pragma unroll
    for (int i = 0; i < kChunks; ++i)
      if (const T* const from = source(i))
#pragma unroll
        for (int j = 0; j < kWidth; j += kPerAccess)
          __pipeline_memcpy_async(&slots_.elements[front_][i][threadIdx.x][j], from + j, 16);
    __pipeline_commit();
    front_ = front_ + 1 == kSlots ? 0 : front_ + 1;
  }

 private:
  Slots& slots_;
  int front_ = 0;
};

}  // namespace smoe::kernels::cuda
