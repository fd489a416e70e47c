// checked_index (kernels/checked_index.h) for kernels on the GPU.
#pragma once
#include <cstdint>

namespace smoe::kernels::cuda {

/// `index`. In debug builds, ends the kernel with an error unless it is in [0, size).
__device__ inline std::int64_t checked_index(std::int64_t index,
                                             [[maybe_unused]] std::int64_t size) {
#ifdef SMOE_CHECK_INDICES
  if (index < 0 || index >= size) __trap();
#endif
  return index;
}

}  // namespace smoe::kernels::cuda
