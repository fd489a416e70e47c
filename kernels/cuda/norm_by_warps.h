// The backward of RMSNorm in a form that takes one warp per row, or a few if it is long, and reads
// rows ahead.
#pragma once
#include "kernels/cuda/partial_rows.h"
#include "kernels/norm.h"

namespace smoe::kernels::cuda {

/// The blocks of the backward; each writes a row of its workspace, a partial dweight.
inline RowBlocks norm_blocks(std::int64_t rows) {
  return {rows, 528};  // four per SM of an H200
}

/// As rms_norm_backward(), but for dweight, whose partial sums it writes to the workspace. False,
/// with nothing done, where vector accesses are not aligned, for rows of more than 4096 elements,
/// for dlogits of more than kMaxPartExperts experts, and where they do not fit into shared memory.
bool rms_norm_backward_by_warps(const Launch& launch, const RmsNormBackwardArgs& args);

}  // namespace smoe::kernels::cuda
