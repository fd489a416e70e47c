// The order of attention's numbers per query, such as logsumexp.
#pragma once
#include "kernels/attention_shape.h"

namespace smoe::kernels {

/// The first of a query head's S numbers in an array with one number per query: [B, H, S], or, if
/// heads are interleaved, [Hkv, B, H / Hkv, S], where the heads of each key head are contiguous, as
/// cuDNN requires of those of one call.
constexpr std::int64_t first_query_number(const AttentionShape& shape, std::int64_t sequence,
                                          std::int64_t head) {
  if (!shape.is_interleaved) return (sequence * shape.num_heads + head) * shape.seq_len;
  const std::int64_t kv_head = shape.kv_head_of(head), index = head / shape.num_kv_heads;
  return ((kv_head * shape.batch + sequence) * shape.group_size() + index) * shape.seq_len;
}

}  // namespace smoe::kernels
