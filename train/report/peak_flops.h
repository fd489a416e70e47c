// The peak throughput of GPUs, for computing model FLOPs utilization.
#pragma once
#include "core/base/dtype.h"
#include "core/base/launch.h"

namespace smoe {

/// The peak dense matrix throughput in a GPU's data sheet, in FLOP/s: of tensor cores in bf16
/// without sparsity, or of f32 arithmetic. 0 if unknown, and on the CPU.
double peak_flops(Device device, DType dtype);

}  // namespace smoe
