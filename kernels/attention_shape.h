// AttentionShape: the sizes of projections, as attention and rotary embedding read them.
#pragma once
#include <cstdint>

namespace smoe::kernels {

/// Sizes of queries q [B*S, H C] and keys and values kv [B*S, 2 Hkv C], or of a packed projection
/// qkv [B*S, (H + 2 Hkv) C]: H query heads, then Hkv key heads, then Hkv value heads of C columns
/// each. Query head h attends to key head h / (H / Hkv), or h % Hkv if they are interleaved: the
/// heads of one query row that a mixture of attention's experts own come expert after expert, and
/// each expert's heads share the key heads alike.
struct AttentionShape {
  std::int64_t batch;         ///< B
  std::int64_t seq_len;       ///< S
  std::int64_t num_heads;     ///< H
  std::int64_t num_kv_heads;  ///< Hkv
  std::int64_t head_dim;      ///< C
  bool is_interleaved = false;

  constexpr std::int64_t num_tokens() const { return batch * seq_len; }
  constexpr std::int64_t packed_width() const { return (num_heads + 2 * num_kv_heads) * head_dim; }
  constexpr std::int64_t output_width() const { return num_heads * head_dim; }
  constexpr std::int64_t kv_width() const { return 2 * num_kv_heads * head_dim; }

  /// Query heads per key head.
  constexpr std::int64_t group_size() const { return num_heads / num_kv_heads; }
  /// The key head of a query head.
  constexpr std::int64_t kv_head_of(std::int64_t head) const {
    return is_interleaved ? head % num_kv_heads : head / group_size();
  }
  /// The query head of a key head, `index` in [0, group_size()).
  constexpr std::int64_t head_of(std::int64_t kv_head, std::int64_t index) const {
    return is_interleaved ? index * num_kv_heads + kv_head : kv_head * group_size() + index;
  }

  friend bool operator==(const AttentionShape&, const AttentionShape&) = default;
};

}  // namespace smoe::kernels
