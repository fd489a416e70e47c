// Checks of the packed projection that attention and rotary embedding take.
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

}  // namespace smoe
