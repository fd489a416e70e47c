// The ordered sum on the GPU.
#pragma once
#include <cstdint>

#include "core/base/cuda.cuh"
#include "core/base/dtype.h"

namespace smoe {

inline constexpr int kMaxSumTerms = 16;

struct SumTerms {
  const void* of[kMaxSumTerms];
};

/// Queues result[i] = terms[0][i] + terms[1][i] + ..., added in this order, for `numel` elements,
/// as OrderedSum does on the host; `result` may be one of the terms. f32, f64, i64; bf16 in f32.
/// Runs on few SMs, since other kernels run beside it.
void device_ordered_sum(const SumTerms& terms, int num_terms, std::int64_t numel, DType dtype,
                        void* result, cudaStream_t stream);

}  // namespace smoe
