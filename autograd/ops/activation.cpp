// The experts' activation as a separate op; moe_mlp.cpp fuses it into the GEMMs around it.
#include "kernels/activation.h"

#include "autograd/ops.h"
#include "autograd/ops/views.h"
#include "autograd/tape.h"
#include "core/device.h"

namespace smoe {
namespace {

// h [N, 2, F] or [N, 2 F] with all pre-activations of a row in one row.
Matrix preactivations(const Tensor& h) {
  return matrix_of(h.reshape({h.dim(0), h.shape().row_numel()}));
}

}  // namespace

Variable activation(const Variable& h, Activation kind) {
  const int rank = h.shape().rank();
  const bool fits =
      is_gated(kind) ? (rank == 3 && h.dim(1) == 2) || (rank == 2 && h.dim(1) % 2 == 0) : rank == 2;
  SMOE_CHECK(fits, "activation: h must be ", is_gated(kind) ? "[N, 2 F] or [N, 2, F]" : "[N, F]",
             "; got ", h.shape());
  SMOE_CHECK(is_floating(h.dtype()), "activation: h must be of a floating dtype; got ",
             name_of(h.dtype()));
  const std::int64_t width = h.shape().row_numel() / (is_gated(kind) ? 2 : 1);
  Tensor a = Tensor::empty({h.dim(0), width}, h.dtype());  // [N, F]
  kernels::activation_forward(launch(), {kind, preactivations(h.data()), matrix_of(a)});
  return record("activation", std::move(a), {&h}, {},
                [h = h.data(), kind](Tensor da, InputGradients& out) {
                  Tensor dh = h.is_sole_reference() ? h : Tensor::empty_like(h);
                  kernels::activation_backward(
                      launch(), {kind, preactivations(h), matrix_of(da), preactivations(dh)});
                  out.give(0, std::move(dh));
                });
}

}  // namespace smoe
