// Checks of the projections that attention and rotary embedding take.
#pragma once
#include "autograd/variable.h"
#include "kernels/attention_shape.h"

namespace smoe {

/// Throws: UsageError unless sizes are positive and Hkv divides H.
inline void check_heads(const char* op, const kernels::AttentionShape& shape) {
  SMOE_CHECK(shape.batch >= 0 && shape.seq_len >= 0 && shape.num_heads > 0 &&
                 shape.num_kv_heads > 0 && shape.head_dim > 0 &&
                 shape.num_heads % shape.num_kv_heads == 0,
             op, ": sizes must be positive and num_kv_heads divide num_heads; got batch ",
             shape.batch, ", seq_len ", shape.seq_len, ", num_heads ", shape.num_heads,
             ", num_kv_heads ", shape.num_kv_heads, ", head_dim ", shape.head_dim);
}

/// Throws: UsageError unless qkv is a floating [T, (H + 2 Hkv) C].
inline void check_packed(const char* op, const Variable& qkv,
                         const kernels::AttentionShape& shape) {
  SMOE_CHECK(
      (qkv.shape() == Shape{shape.num_tokens(), shape.packed_width()}) && is_floating(qkv.dtype()),
      op, ": qkv must be a floating [B*S, (H + 2 Hkv) C] = ",
      Shape({shape.num_tokens(), shape.packed_width()}), "; got ", qkv.shape(), " ",
      name_of(qkv.dtype()));
}

/// Throws: UsageError unless q is a floating [T, H C] and kv a [T, 2 Hkv C] of the same dtype.
inline void check_apart(const char* op, const Variable& q, const Variable& kv,
                        const kernels::AttentionShape& shape) {
  const Shape q_shape{shape.num_tokens(), shape.output_width()};
  const Shape kv_shape{shape.num_tokens(), shape.kv_width()};
  SMOE_CHECK(q.shape() == q_shape && kv.shape() == kv_shape && q.dtype() == kv.dtype() &&
                 is_floating(q.dtype()),
             op, ": q must be [B*S, H C] = ", q_shape, " and kv [B*S, 2 Hkv C] = ", kv_shape,
             " in one floating dtype; got ", q.shape(), " ", name_of(q.dtype()), " and ",
             kv.shape(), " ", name_of(kv.dtype()));
}

}  // namespace smoe
