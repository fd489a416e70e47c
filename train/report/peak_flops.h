// What a GPU can do at most, by which utilization is measured.
#pragma once
#include "core/base/dtype.h"
#include "core/base/launch.h"

namespace smoe {

/// The peak dense matrix throughput that a GPU's data sheet states, in FLOP/s: those of its tensor cores
/// in bf16, without sparsity, or of f32 arithmetic. 0 where that is not known, and on the CPU.
double peak_flops(Device device, DType dtype);

}  // namespace smoe
