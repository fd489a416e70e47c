// Rotary position embedding. The gradient of a rotation is the inverse rotation, so nothing is
// saved and both directions work in place.
#include "kernels/rotary.h"

#include "autograd/ops.h"
#include "autograd/ops/attention_checks.h"
#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "autograd/rotary_table.h"
#include "autograd/tape.h"

namespace smoe {
namespace {

struct Rotation {
  AttentionShape shape;
  double theta;
  std::int64_t first_position;
  std::shared_ptr<RotaryTable> table;  // null: none is kept
};

// Rotates in place if this is the sole reference to qkv.
Tensor rotate(const Tensor& qkv, const Rotation& rotation, bool inverse) {
  const AttentionShape& shape = rotation.shape;
  Tensor target = qkv.is_sole_reference() ? qkv : Tensor::empty_like(qkv);
  kernels::RotaryArgs args{.source = matrix_of(qkv),
                           .target = matrix_of(target),
                           .shape = shape,
                           .theta = rotation.theta,
                           .inverse = inverse,
                           .first_position = rotation.first_position};
  if (!rotation.table) {
    run_kernel(kernels::rotary, kernels::rotary_workspace_bytes, args);
    return target;
  }
  RotaryTable& table = *rotation.table;
  const RotaryTable::Key key{shape.seq_len, shape.head_dim, rotation.first_position, rotation.theta,
                             qkv.dtype()};
  args.has_table =
      table.workspace.defined() && table.key == key && table.workspace.device() == qkv.device();
  if (!args.has_table)
    table = {key, Tensor::empty({kernels::rotary_workspace_bytes(launch(), args)}, DType::u8,
                                Category::workspace)};
  args.workspace = table.workspace.data();
  kernels::rotary(launch(), args);
  return target;
}

}  // namespace

Variable rotary(Variable qkv, const AttentionShape& shape, double theta,
                std::int64_t first_position, std::shared_ptr<RotaryTable> table) {
  // Queries alone have no key heads, keys and values alone no query heads.
  if (shape.num_heads == 0 || shape.num_kv_heads == 0) {
    AttentionShape with_both = shape;
    with_both.num_heads = with_both.num_kv_heads = shape.num_heads + shape.num_kv_heads;
    check_heads("rotary", with_both);
  } else {
    check_heads("rotary", shape);
  }
  check_packed("rotary", qkv, shape);
  SMOE_CHECK(shape.head_dim % 2 == 0, "rotary: head_dim must be even; got ", shape.head_dim);
  SMOE_CHECK(theta > 0, "rotary: theta must be positive; got ", theta);
  SMOE_CHECK(first_position >= 0, "rotary: first_position must not be negative; got ",
             first_position);
  Rotation rotation{shape, theta, first_position, std::move(table)};
  Tensor rotated = rotate(qkv.data(), rotation, false);
  return record("rotary", std::move(rotated), {&qkv}, {},
                [rotation = std::move(rotation)](Tensor dy, InputGradients& out) {
                  out.give(0, rotate(dy, rotation, true));
                });
}

}  // namespace smoe
