#include "kernels/cuda/experts/sm90/tile_counter.cuh"

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>
#include <utility>

#include "core/base/cuda.cuh"

namespace smoe::kernels::cuda::sm90 {

namespace {

constexpr int kNumCounters = 2;

struct Counters {
  int* memory = nullptr;
  int next = 0;
};

}  // namespace

int* tile_counter(const Launch& launch) {
  static std::mutex mutex;
  static std::map<std::pair<int, void*>, Counters> all;  // by device and stream
  const std::lock_guard<std::mutex> lock(mutex);
  Counters& counters = all[{launch.device.index, launch.stream}];
  if (!counters.memory) {
    constexpr std::size_t kBytes = kNumCounters * sizeof(int);
    void* memory = nullptr;
    CUDA_CHECK(cudaMalloc(&memory, kBytes));
    CUDA_CHECK(cudaMemsetAsync(memory, 0, kBytes, static_cast<cudaStream_t>(launch.stream)));
    counters.memory = static_cast<int*>(memory);
  }
  counters.next = (counters.next + 1) % kNumCounters;
  return counters.memory + counters.next;
}

}  // namespace smoe::kernels::cuda::sm90
