// Rotary position embedding, alone and in one pass with the projection. The gradient of a rotation
// is the inverse rotation, so nothing is saved and both directions work in place.
#include "autograd/ops.h"
#include "autograd/ops/attention_checks.h"
#include "autograd/ops/linear.h"
#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "autograd/rotary_table.h"
#include "autograd/tape.h"
#include "kernels/rotary_gemm.h"

namespace smoe {
namespace {

struct Rotation {
  AttentionShape shape;
  double theta;
  std::int64_t first_position;
  std::shared_ptr<RotaryTable> table;  // null: none is kept
};

// The kernel's arguments but for its table.
kernels::RotaryArgs rotary_args(const Tensor& source, const Tensor& target,
                                const Rotation& rotation, bool inverse) {
  return {.source = matrix_of(source),
          .target = matrix_of(target),
          .shape = rotation.shape,
          .theta = rotation.theta,
          .inverse = inverse,
          .first_position = rotation.first_position};
}

// Gives the kernel its table: the kept one, or memory for this call, which the caller holds.
Tensor provide_table(kernels::RotaryArgs& args, RotaryTable* kept) {
  const AttentionShape& shape = args.shape;
  const RotaryTable::Key key{shape.seq_len, shape.head_dim, args.first_position, args.theta,
                             args.source.dtype};
  args.has_table = kept && kept->workspace.defined() && kept->key == key &&
                   kept->workspace.device() == launch().device;
  Tensor memory = args.has_table ? kept->workspace
                                 : new_workspace(kernels::rotary_workspace_bytes(launch(), args));
  if (kept && !args.has_table) *kept = {key, memory};
  args.workspace = memory.data();
  return memory;
}

// Rotates in place if this is the sole reference to qkv.
Tensor rotate(const Tensor& qkv, const Rotation& rotation, bool inverse) {
  Tensor target = qkv.is_sole_reference() ? qkv : Tensor::empty_like(qkv);
  kernels::RotaryArgs args = rotary_args(qkv, target, rotation, inverse);
  const Tensor table = provide_table(args, rotation.table.get());
  kernels::rotary(launch(), args);
  return target;
}

void check_rotation(const char* op, const Variable& qkv, const Rotation& rotation) {
  const AttentionShape& shape = rotation.shape;
  // Queries alone have no key heads, keys and values alone no query heads.
  if (shape.num_heads == 0 || shape.num_kv_heads == 0) {
    AttentionShape with_both = shape;
    with_both.num_heads = with_both.num_kv_heads = shape.num_heads + shape.num_kv_heads;
    check_heads(op, with_both);
  } else {
    check_heads(op, shape);
  }
  check_packed(op, qkv, shape);
  SMOE_CHECK(shape.head_dim % 2 == 0, op, ": head_dim must be even; got ", shape.head_dim);
  SMOE_CHECK(rotation.theta > 0, op, ": theta must be positive; got ", rotation.theta);
  SMOE_CHECK(rotation.first_position >= 0, op, ": first_position must not be negative; got ",
             rotation.first_position);
}

Variable record_rotation(const Variable& qkv, Tensor rotated, Rotation rotation) {
  return record("rotary", std::move(rotated), {&qkv}, {},
                [rotation = std::move(rotation)](Tensor dy, InputGradients& out) {
                  out.give(0, rotate(dy, rotation, true));
                });
}

}  // namespace

Variable rotary(Variable qkv, const AttentionShape& shape, double theta,
                std::int64_t first_position, std::shared_ptr<RotaryTable> table) {
  Rotation rotation{shape, theta, first_position, std::move(table)};
  check_rotation("rotary", qkv, rotation);
  Tensor rotated = rotate(qkv.data(), rotation, false);
  return record_rotation(qkv, std::move(rotated), std::move(rotation));
}

Variable rotary_linear(const Variable& x, Parameter& weight, const AttentionShape& shape,
                       double theta, std::int64_t first_position,
                       std::shared_ptr<RotaryTable> table) {
  check_linear(x, weight);
  Rotation rotation{shape, theta, first_position, std::move(table)};
  const Tensor& w = weight.value();                           // [(H + 2 Hkv) C, D]
  Tensor y = Tensor::empty({x.dim(0), w.dim(0)}, w.dtype());  // [T, (H + 2 Hkv) C]
  check_rotation("rotary_linear", y, rotation);
  kernels::RotaryArgs args = rotary_args(y, y, rotation, false);
  const Tensor angles = provide_table(args, rotation.table.get());
  run_kernel(kernels::rotary_gemm, kernels::rotary_gemm_workspace_bytes,
             {.x = matrix_of(x.data()), .weight = matrix_of(w), .rotary = args});
  const Variable projected = record_linear(x, weight, y);
  return record_rotation(projected, std::move(y), std::move(rotation));
}

}  // namespace smoe
