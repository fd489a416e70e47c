// Descriptions of tensors in global memory for TMA.
#pragma once
#include <cuda.h>

#include "core/base/dtype.h"

namespace smoe::kernels::cuda::hopper {

/// Elements of an array in up to three dimensions, innermost first; strides in bytes, multiples of
/// 16, as is the address.
struct TensorView {
  const void* data;
  DType dtype;
  std::int64_t size[3];
  std::int64_t stride[2];  ///< of dimensions 1 and 2
};

/// A map by which boxes of `box` elements (128 bytes in dimension 0) go to and from shared memory,
/// their 16-byte chunks swizzled. Throws: SystemError where the driver refuses it.
CUtensorMap tensor_map(const char* op, const TensorView& view, const int (&box)[3]);

}  // namespace smoe::kernels::cuda::hopper
