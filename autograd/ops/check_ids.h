// Checks indices that come from data before a kernel uses them.
#pragma once
#include "core/tensor.h"

namespace smoe {

/// Throws: UsageError naming `op` unless all elements of `ids`, i32, are in [min, end). Only for
/// tensors on the host: those on a GPU were checked when they were read.
inline void check_ids(const char* op, const Tensor& ids, std::int64_t min, std::int64_t end) {
  if (ids.device().type != DeviceType::cpu) return;
  const std::int32_t* values = ids.data_as<std::int32_t>();
  const std::int64_t count = ids.numel();
  for (std::int64_t i = 0; i < count; ++i)
    SMOE_CHECK(values[i] >= min && values[i] < end, op, ": ids must be ", min, " to ", end - 1,
               "; got ", values[i], " at ", i);
}

}  // namespace smoe
