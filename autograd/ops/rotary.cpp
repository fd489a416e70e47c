// Rotary position embedding. The gradient of a rotation is the inverse rotation, so nothing is
// saved and both directions work in place.
#include "kernels/rotary.h"

#include "autograd/ops.h"
#include "autograd/ops/attention_checks.h"
#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "autograd/tape.h"

namespace smoe {
namespace {

// Rotates in place if this is the sole reference to qkv.
Tensor rotate(const Tensor& qkv, const AttentionShape& shape, double theta,
              std::int64_t first_position, bool inverse) {
  Tensor target = qkv.is_sole_reference() ? qkv : Tensor::empty_like(qkv);
  run_kernel(kernels::rotary, kernels::rotary_workspace_bytes,
             {.source = matrix_of(qkv),
              .target = matrix_of(target),
              .shape = shape,
              .theta = theta,
              .inverse = inverse,
              .first_position = first_position});
  return target;
}

}  // namespace

Variable rotary(Variable qkv, const AttentionShape& shape, double theta,
                std::int64_t first_position) {
  check_packed("rotary", qkv, shape);
  SMOE_CHECK(shape.head_dim % 2 == 0, "rotary: head_dim must be even; got ", shape.head_dim);
  SMOE_CHECK(theta > 0, "rotary: theta must be positive; got ", theta);
  SMOE_CHECK(first_position >= 0, "rotary: first_position must not be negative; got ",
             first_position);
  return record("rotary", rotate(qkv.data(), shape, theta, first_position, false), {&qkv}, {},
                [shape, theta, first_position](Tensor dy, InputGradients& out) {
                  out.give(0, rotate(dy, shape, theta, first_position, true));
                });
}

}  // namespace smoe
