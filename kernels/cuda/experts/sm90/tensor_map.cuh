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

/// A map with boxes of `box` elements (128 bytes in dimension 0) and 128-byte swizzle. Throws:
/// SystemError if the driver rejects it.
CUtensorMap make_tensor_map(const char* op, const TensorView& view, const int (&box)[3]);

}  // namespace smoe::kernels::cuda::sm90
