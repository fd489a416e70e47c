// Cases of kernels/rotary.h on the current stream.
#pragma once
#include "autograd/ops/run_kernel.h"
#include "kernels/rotary.h"
#include "tests/support/tensors.h"

namespace smoe::test {

inline constexpr double kRotaryTheta = 1e4;

inline Tensor random_qkv(const kernels::AttentionShape& shape, DType dtype, double scale = 1) {
  return random_normal("qkv", {shape.num_tokens(), shape.packed_width()}, dtype, scale);
}

/// Rotates `source` into `target`, which may be `source`, and returns `target`.
inline Tensor run_rotary(const Tensor& source, const Tensor& target,
                         const kernels::AttentionShape& shape, bool inverse,
                         std::int64_t first_position = 0) {
  run_kernel(kernels::rotary, kernels::rotary_workspace_bytes,
             {.source = matrix_of(source),
              .target = matrix_of(target),
              .shape = shape,
              .theta = kRotaryTheta,
              .inverse = inverse,
              .first_position = first_position});
  return target;
}

}  // namespace smoe::test
