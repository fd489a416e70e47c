// Copies of matrices between different row strides.
#pragma once
#include "core/base/launch.h"
#include "core/base/matrix.h"

namespace smoe::kernels {

/// target = source. Both have the same rows, columns and dtype, and do not overlap.
struct CopyMatrixArgs {
  ConstMatrix source;
  Matrix target;
};
void copy_matrix(const Launch& launch, const CopyMatrixArgs& args);

}  // namespace smoe::kernels
