// Tensor maps: descriptors of global-memory tensors for TMA.
#pragma once
#include <cuda.h>

#include "core/base/dtype.h"

namespace smoe::kernels::cuda::sm90 {

/// A tensor of up to three dimensions, innermost first. The address and the strides, in bytes, must
/// be multiples of 16.
struct TensorView {
  const void* data;
  DType dtype;
  std::int64_t size[3];
  std::int64_t stride[2];  ///< of dimensions 1 and 2
};

/// A tensor map (CUtensorMap) whose TMA box has box[0] x box[1] x box[2] elements. The inner box
/// dimension is 64 or 128 bytes, which is also the swizzle. Throws: SystemError if the driver
/// rejects it.
CUtensorMap make_tensor_map(const char* op, const TensorView& view, const int (&box)[3]);

/// A map with 128-byte swizzle and boxes of 64 columns and 64 rows of a bf16 matrix [rows, cols],
/// of which a load takes only the first n rows of the box and zeros for the others: at coordinates
/// {col, o - n, row + n, o} with o = kRaggedOrigin. Dimensions 1 and 2 both run over rows;
/// dimension 1 ends at o, and the stride of dimension 3 subtracts o rows modulo 2^64.
constexpr int kRaggedOrigin = 1 << 30;
CUtensorMap make_ragged_map(const char* op, const void* data, std::int64_t rows, std::int64_t cols,
                            std::int64_t row_bytes);

}  // namespace smoe::kernels::cuda::sm90
