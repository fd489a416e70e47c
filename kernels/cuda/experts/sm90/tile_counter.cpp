#include "kernels/cuda/experts/sm90/tile_counter.cuh"

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>
#include <utility>

#include "core/base/cuda.cuh"

namespace smoe::kernels::cuda::sm90 {

int* tile_counter(const Launch& launch) {
  static std::mutex mutex;
  static std::map<std::pair<int, void*>, int*> counters;  // by device and stream
  const std::lock_guard<std::mutex> lock(mutex);
  int*& counter = counters[{launch.device.index, launch.stream}];
  if (!counter) {
    void* memory = nullptr;
    CUDA_CHECK(cudaMalloc(&memory, sizeof(int)));
    CUDA_CHECK(cudaMemsetAsync(memory, 0, sizeof(int), static_cast<cudaStream_t>(launch.stream)));
    counter = static_cast<int*>(memory);
  }
  return counter;
}

}  // namespace smoe::kernels::cuda::sm90
