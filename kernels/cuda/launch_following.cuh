// Launches whose latency overlaps with the end of the stream's preceding kernel (programmatic
// dependent launch).
#pragma once
#include "kernels/cuda/device/preceding_kernel.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {

struct LaunchSize {
  dim3 blocks;
  dim3 threads;
  std::size_t shared_bytes = 0;
};

/// Whether this device runs kKernel in code that waits; code for older GPUs does not.
template <auto kKernel>
bool can_follow() {
  cudaFuncAttributes attributes{};
  CUDA_CHECK(cudaFuncGetAttributes(&attributes, kKernel));
  return attributes.binaryVersion >= 90 && attributes.ptxVersion >= 90;
}

/// Launches a kernel of which every thread begins with follow_preceding_kernel().
/// Throws: SystemError when the launch fails.
template <auto kKernel, class... Args>
void launch_following(const Launch& launch, const LaunchSize& size, Args... args) {
  static const bool follows = can_follow<kKernel>();
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = size.blocks;
  config.blockDim = size.threads;
  config.dynamicSmemBytes = size.shared_bytes;
  config.stream = stream_of(launch);
  config.attrs = &attribute;
  config.numAttrs = follows ? 1 : 0;
  CUDA_CHECK(cudaLaunchKernelEx(&config, kKernel, args...));
}

}  // namespace smoe::kernels::cuda
