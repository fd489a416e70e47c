// AttentionShape: the sizes of projections, as attention and rotary embedding read them.
#pragma once
#include <cstdint>

namespace smoe::kernels {

/// Sizes of queries q [B*S, H C] and keys and values kv [B*S, 2 Hkv C], or of a packed projection
/// qkv [B*S, (H + 2 Hkv) C]: H query heads, then Hkv key heads, then Hkv value heads of C columns
/// each. Query head h attends to key head h / (H / Hkv).
struct AttentionShape {
  std::int64_t batch;         ///< B
  std::int64_t seq_len;       ///< S
  std::int64_t num_heads;     ///< H
  std::int64_t num_kv_heads;  ///< Hkv
  std::int64_t head_dim;      ///< C

  constexpr std::int64_t num_tokens() const { return batch * seq_len; }
  constexpr std::int64_t packed_width() const { return (num_heads + 2 * num_kv_heads) * head_dim; }
  constexpr std::int64_t output_width() const { return num_heads * head_dim; }
  constexpr std::int64_t kv_width() const { return 2 * num_kv_heads * head_dim; }

  friend bool operator==(const AttentionShape&, const AttentionShape&) = default;
};

}  // namespace smoe::kernels
