// RMSNorm in bf16 in forms in which a thread has kWidth columns of every row of its block, which
// are faster than the general ones for the widths that they take.
#pragma once
#include "kernels/norm.h"

namespace smoe::kernels::cuda {

/// As rms_norm(). False, with nothing done, but for bf16 with two rows to be summed, rows of more
/// than 512 and at most 1024 elements, and aligned vector accesses.
bool rms_norm_by_columns(const Launch& launch, const RmsNormArgs& args);

/// As rms_norm_backward(), but for dweight, whose partial sums it writes to the workspace, one row
/// of it per block of norm_blocks(). False, with nothing done, but for bf16, rows of more than 512
/// and at most 1024 elements, aligned vector accesses, either rows and dlogits of at most
/// kMaxPartExperts experts or neither, and operands of which four blocks fit into an SM.
bool rms_norm_backward_by_columns(const Launch& launch, const RmsNormBackwardArgs& args);

}  // namespace smoe::kernels::cuda
