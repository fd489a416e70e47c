// Elementwise sums of several arrays in a fixed order.
#pragma once
#include <cstdint>
#include <vector>

#include "core/base/dtype.h"

namespace smoe {

/// result[i] = terms[0][i] + terms[1][i] + ..., added in this order, for `numel` elements; `result`
/// may be one of the terms.
using OrderedSum = void (*)(const std::vector<const void*>& terms, std::int64_t numel,
                            void* result);

/// The sum for f32, f64, i64 (which wraps), and bf16, which accumulates in f32.
/// Throws: UsageError, naming `op`, for another dtype.
OrderedSum ordered_sum_for(const char* op, DType dtype);

}  // namespace smoe
