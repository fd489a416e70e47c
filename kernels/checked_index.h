// Indices that come from data. Callers check them, so kernels do so only in debug and sanitizer
// builds (SMOE_CHECK_INDICES).
#pragma once
#include <cstdint>

#include "core/base/check.h"

namespace smoe::kernels {

/// `index`. Throws, in the builds above: InternalError unless it is in [0, size).
inline std::int64_t checked_index(std::int64_t index, [[maybe_unused]] std::int64_t size) {
#ifdef SMOE_CHECK_INDICES
  SMOE_INTERNAL_CHECK(index >= 0 && index < size, "index ", index, " of ", size);
#endif
  return index;
}

}  // namespace smoe::kernels
