// RMSNorm, by itself and fused with the residual add before it.
#include "kernels/norm.h"

#include "autograd/ops.h"
#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "autograd/routed_sum.h"
#include "autograd/tape.h"
#include "autograd/unsummed_gradient.h"
#include "core/device.h"

namespace smoe {
namespace {

void check_norm(const char* op, const Variable& x, const Parameter& weight, double epsilon) {
  const bool shapes_fit =
      x.shape().rank() == 2 && weight.shape().rank() == 1 && x.dim(1) == weight.shape()[0];
  SMOE_CHECK(shapes_fit && x.dim(1) > 0, op, ": x must be [T, D] and weight [D], D > 0; got x ",
             x.shape(), ", ", weight.name(), " ", weight.shape());
  SMOE_CHECK(is_floating(x.dtype()) && weight.value().dtype() == accumulation_dtype(x.dtype()), op,
             ": x is ", name_of(x.dtype()), ", so its weight must be ",
             name_of(accumulation_dtype(x.dtype())), "; got ", weight.name(), " in ",
             name_of(weight.value().dtype()));
  SMOE_CHECK(epsilon >= 0, op, ": epsilon must not be negative; got ", epsilon);
}

// Inputs of the norm's backward, from which its output can also be rematerialized.
struct SavedNorm {
  Tensor x;            // [T, D], the norm's input
  Tensor inverse_rms;  // [T]
  Parameter& weight;
  double epsilon;
};

Tensor normalize(const SavedNorm& saved) {
  Tensor y = Tensor::empty_like(saved.x);
  kernels::rms_norm(launch(), {.x = matrix_of(saved.x),
                               .delta = {},
                               .sum = {},
                               .weight = saved.weight.value().data(),
                               .y = matrix_of(y),
                               .inverse_rms = saved.inverse_rms.data(),
                               .epsilon = saved.epsilon});
  return y;
}

kernels::GradientParts parts_of(const Tensor& dy, const UnsummedGradient& parts) {
  kernels::GradientParts result;
  if (dy.defined()) result.dense = matrix_of(dy);
  if (parts.rows.defined()) {
    result.rows = matrix_of(parts.rows);
    result.grouped_rows = parts.plan.grouped_rows.data_as<std::int32_t>();
    result.top_k = parts.plan.top_k;
  }
  if (parts.dlogits.defined()) {
    result.dlogits = matrix_of(parts.dlogits);
    result.weight = matrix_of(parts.weight->value());
  }
  return result;
}

// The gradient of the norm's input, plus dsum if it is defined; accumulates the weight's gradient.
// That of its output is the sum of dy, unless it is undefined, and `parts`. The result overwrites
// dy or dsum if this is the sole reference to it.
Tensor norm_backward(const SavedNorm& saved, Tensor dy, const UnsummedGradient& parts,
                     Tensor dsum) {
  Tensor dx = dy.defined() && dy.is_sole_reference()       ? dy
              : dsum.defined() && dsum.is_sole_reference() ? dsum
                                                           : Tensor::empty_like(saved.x);
  run_kernel(kernels::rms_norm_backward, kernels::rms_norm_backward_workspace_bytes,
             {.x = matrix_of(saved.x),
              .inverse_rms = saved.inverse_rms.data(),
              .weight = saved.weight.value().data(),
              .dy = parts_of(dy, parts),
              .dsum = dsum.defined() ? matrix_of(dsum) : ConstMatrix(),
              .dx = matrix_of(dx),
              .dweight = saved.weight.trains() ? saved.weight.gradient().data() : nullptr,
              .dweight_dtype = saved.weight.gradient_dtype(),
              .beta = saved.weight.trains() ? saved.weight.claim_gradient() : 0});
  return dx;
}

}  // namespace

Variable rms_norm(const Variable& x, Parameter& weight, double epsilon) {
  check_norm("rms_norm", x, weight, epsilon);
  const SavedNorm saved{x.data(), Tensor::empty({x.dim(0)}, accumulation_dtype(x.dtype())), weight,
                        epsilon};
  const auto unsummed = std::make_shared<UnsummedGradient>();
  Variable y = record("rms_norm", normalize(saved), {&x}, {&weight},  // [T, D]
                      [saved, unsummed](Tensor dy, InputGradients& out) {
                        const UnsummedGradient parts = std::move(*unsummed);
                        out.give(0, norm_backward(saved, std::move(dy), parts, Tensor()));
                      });
  y.set_rematerialization([saved] { return normalize(saved); });
  y.set_unsummed_gradient(unsummed);
  return y;
}

ResidualNorm add_rms_norm(const Variable& residual, const Variable& delta, Parameter& weight,
                          double epsilon) {
  check_norm("add_rms_norm", residual, weight, epsilon);
  const bool has_delta = delta.defined();
  SMOE_CHECK(!has_delta || (residual.shape() == delta.shape() && residual.dtype() == delta.dtype()),
             "add_rms_norm: residual and delta must have one shape and dtype; got ",
             residual.shape(), " ", name_of(residual.dtype()), " and ", delta.shape(), " ",
             name_of(delta.dtype()));
  Tensor sum = has_delta ? Tensor::empty_like(residual.data()) : residual.data();  // [T, D]
  Tensor normed = Tensor::empty_like(residual.data());                             // [T, D]
  Tensor inverse_rms = Tensor::empty({residual.dim(0)}, accumulation_dtype(residual.dtype()));
  kernels::RmsNormArgs args{.x = matrix_of(residual.data()),
                            .delta = {},
                            .sum = has_delta ? matrix_of(sum) : Matrix(),
                            .weight = weight.value().data(),
                            .y = matrix_of(normed),
                            .inverse_rms = inverse_rms.data(),
                            .epsilon = epsilon};
  if (has_delta && delta.routed_sum() && delta.routed_sum()->has_rows()) {
    const RoutedSum& routed = *delta.routed_sum();
    args.delta = matrix_of(routed.rows());
    args.grouped_rows = routed.plan().grouped_rows.data_as<std::int32_t>();
    args.top_k = routed.plan().top_k;
  } else if (has_delta) {
    args.delta = matrix_of(delta.data());
  }
  kernels::rms_norm(launch(), args);
  const SavedNorm saved{sum, std::move(inverse_rms), weight, epsilon};
  const auto unsummed = std::make_shared<UnsummedGradient>();
  auto outputs = record_outputs(
      "add_rms_norm", {std::move(sum), std::move(normed)}, {&residual, &delta}, {&weight},
      [saved, has_delta, unsummed](std::vector<Tensor> dys, InputGradients& out) {
        const UnsummedGradient parts = std::move(*unsummed);
        const bool has_dy = dys[1].defined() || parts.rows.defined() || parts.dlogits.defined();
        // Without a gradient of `normed`, that of `sum` is passed through.
        Tensor dx = has_dy ? norm_backward(saved, std::move(dys[1]), parts, std::move(dys[0]))
                           : std::move(dys[0]);
        if (has_delta) out.give(1, dx);
        out.give(0, std::move(dx));
      });
  outputs[1].set_rematerialization([saved] { return normalize(saved); });
  outputs[1].set_unsummed_gradient(unsummed);
  return {outputs[0], outputs[1]};
}

}  // namespace smoe
