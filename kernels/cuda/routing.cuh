// What the kernels of the router and of the counting sort share.
#pragma once
#include <algorithm>

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {

constexpr int kMaxWarps = 8;  // per thread block of a routing kernel

/// The number of warps per thread block if each needs `bytes` of shared memory.
/// Throws: UsageError, named by `op`, if one warp's bytes are more than every device has.
inline int warps_for(const char* op, std::int64_t bytes, std::int64_t num_experts) {
  constexpr std::int64_t kSharedBytes = 48 * 1024;
  SMOE_CHECK(bytes <= kSharedBytes, op, ": too many experts for a GPU's shared memory; got ",
             num_experts);
  return static_cast<int>(
      std::min<std::int64_t>(kMaxWarps, kSharedBytes / std::max<std::int64_t>(bytes, 1)));
}

__device__ inline int lane_id() {
  return threadIdx.x % kWarp;
}

}  // namespace smoe::kernels::cuda
