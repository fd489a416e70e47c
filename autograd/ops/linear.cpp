// Dense linear layer: y = x W^T; dx = dy W; dW += dy^T x.
#include "autograd/ops/linear.h"

#include "autograd/ops.h"
#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "autograd/unsummed_gradient.h"
#include "kernels/norm.h"

namespace smoe {

void check_linear(const Variable& x, const Parameter& weight) {
  const bool shapes_fit =
      x.shape().rank() == 2 && weight.shape().rank() == 2 && x.dim(1) == weight.shape()[1];
  SMOE_CHECK(shapes_fit, "linear: x must be [T, D_in] and weight [D_out, D_in]; got x ", x.shape(),
             ", ", weight.name(), " ", weight.shape());
  const DType expected = weight.full_precision() ? accumulation_dtype(x.dtype()) : x.dtype();
  SMOE_CHECK(is_floating(x.dtype()) && weight.value().dtype() == expected, "linear: x is ",
             name_of(x.dtype()), ", so its weight must be ", name_of(expected), "; got ",
             weight.name(), " in ", name_of(weight.value().dtype()));
}

namespace {

// Whether the gradient of x is left unsummed: as of a router with few experts.
bool is_part(const UnsummedGradient& parts, const Parameter& weight) {
  return !parts.dlogits.defined() && weight.full_precision() &&
         weight.shape()[0] <= kernels::kMaxPartExperts;
}

}  // namespace

Variable linear(const Variable& x, Parameter& weight) {
  check_linear(x, weight);
  const Tensor& w = weight.value();                           // [D_out, D_in]
  Tensor y = Tensor::empty({x.dim(0), w.dim(0)}, w.dtype());  // [T, D_out]
  run_gemm({.a = matrix_of(x.data()), .b = matrix_of(w), .transpose_b = true, .c = matrix_of(y)});
  return record_linear(x, weight, std::move(y));
}

Variable record_linear(const Variable& x, Parameter& weight, Tensor y) {
  return record(
      "linear", std::move(y), {&x}, {&weight},
      [saved = SavedTensor(x, weight.trains()), parts = x.unsummed_gradient(), &weight](
          Tensor dy, InputGradients& out) mutable {
        const Tensor x = saved.take();
        if (weight.trains())
          run_gemm({.a = matrix_of(dy),
                    .transpose_a = true,
                    .b = matrix_of(x),
                    .c = matrix_of(weight.gradient()),
                    .beta = weight.claim_gradient()});
        if (!out.wants(0)) return;
        if (parts && is_part(*parts, weight)) {
          parts->dlogits = std::move(dy);
          parts->weight = &weight;
          return out.give_part(0);
        }
        Tensor dx = saved.gradient_memory(x);
        run_gemm({.a = matrix_of(dy), .b = matrix_of(weight.value()), .c = matrix_of(dx)});
        out.give(0, std::move(dx));
      });
}

}  // namespace smoe
