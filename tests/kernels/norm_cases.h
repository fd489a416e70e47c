// Cases of kernels/norm.h on the current stream.
#pragma once
#include "autograd/ops/run_kernel.h"
#include "kernels/norm.h"
#include "tests/support/tensors.h"

namespace smoe::test {

// Large, so that rows of one element, whose gradient is all epsilon, are well conditioned.
inline constexpr double kNormEpsilon = 1;

struct NormSizes {
  std::int64_t num_tokens, width;
};

/// The input whose memory an output reuses.
enum class Over { none, x, delta, dy, dsum };

struct NormForward {
  Tensor x, delta, weight, sum, y, inverse_rms;
};

/// `sum` may reuse delta and `y` may reuse x.
inline NormForward run_norm(const NormSizes& sizes, DType dtype, bool with_delta,
                            Over over = Over::none) {
  const Shape shape{sizes.num_tokens, sizes.width};
  const DType acc = accumulation_dtype(dtype);
  NormForward norm{.x = random_normal("x", shape, dtype),
                   .delta = random_normal("delta", shape, dtype),
                   .weight = random_normal("weight", {sizes.width}, acc),
                   .sum = {},
                   .y = {},
                   .inverse_rms = Tensor::empty({sizes.num_tokens}, acc)};
  norm.sum = over == Over::delta ? norm.delta : Tensor::empty(shape, dtype);
  norm.y = over == Over::x ? norm.x : Tensor::empty(shape, dtype);
  kernels::rms_norm(launch(), {.x = matrix_of(norm.x),
                               .delta = with_delta ? matrix_of(norm.delta) : ConstMatrix(),
                               .sum = with_delta ? matrix_of(norm.sum) : Matrix(),
                               .weight = norm.weight.data(),
                               .y = matrix_of(norm.y),
                               .inverse_rms = norm.inverse_rms.data(),
                               .epsilon = kNormEpsilon});
  return norm;
}

struct NormBackward {
  Tensor dy, dsum, dx, dweight;
};

/// The gradient of norm.x; dx may reuse dy, dsum or a copy of x.
inline NormBackward run_norm_backward(const NormForward& norm, bool with_dsum, double beta,
                                      Over over = Over::none) {
  NormBackward result{
      .dy = random_normal("dy", norm.x.shape(), norm.x.dtype()),
      .dsum = random_normal("dsum", norm.x.shape(), norm.x.dtype()),
      .dx = {},
      .dweight = beta == 0 ? Tensor::empty_like(norm.weight)
                           : random_normal("dweight", norm.weight.shape(), norm.weight.dtype())};
  const Tensor x = over == Over::x ? norm.x.clone(Category::activations) : norm.x;
  result.dx = over == Over::none ? Tensor::empty_like(norm.x)
              : over == Over::dy ? result.dy
              : over == Over::x  ? x
                                 : result.dsum;
  run_kernel(kernels::rms_norm_backward, kernels::rms_norm_backward_workspace_bytes,
             {.x = matrix_of(x),
              .inverse_rms = norm.inverse_rms.data(),
              .weight = norm.weight.data(),
              .dy = matrix_of(result.dy),
              .dsum = with_dsum ? matrix_of(result.dsum) : ConstMatrix(),
              .dx = matrix_of(result.dx),
              .dweight = result.dweight.data(),
              .beta = beta});
  return result;
}

}  // namespace smoe::test
