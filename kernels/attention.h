// Causal grouped-query attention.
#pragma once
#include <string>

#include "core/base/launch.h"
#include "core/base/matrix.h"
#include "kernels/attention_shape.h"

namespace smoe::kernels {

/// In each sequence and query head, with s_ij = <q_i, k_j> / sqrt(C) for j <= i:
/// output_i = sum_j softmax(s_i)_j v_j. q, and kv with its key heads before its value heads, may be
/// columns of one packed projection. Only blocks of the scores exist at a time. With bf16
/// storage the numerators of the softmax are rounded to bf16 before they are multiplied with v;
/// accumulation is in f32.
struct AttentionArgs {
  ConstMatrix q;    ///< [T, H C]
  ConstMatrix kv;   ///< [T, 2 Hkv C]
  Matrix output;    ///< [T, H C]
  void* logsumexp;  ///< [B H S], see attention_order.h, accumulation dtype: log sum_j exp(s_ij)
  AttentionShape shape;
  void* workspace = nullptr;  ///< attention_workspace_bytes()
};
void attention(const Launch& launch, const AttentionArgs& args);

std::int64_t attention_workspace_bytes(const Launch& launch, const AttentionArgs& args);

/// Attention of the next S rows of each sequence over a KV cache: appends the keys and values of
/// the new rows to the cache, then query i attends to the first num_cached + i + 1 rows. For
/// generation: S > 1 processes a prompt, S = 1 generates a token.
struct CachedAttentionArgs {
  ConstMatrix q;              ///< [B*S, H C], already rotated
  ConstMatrix kv;             ///< [B*S, 2 Hkv C], keys already rotated
  Matrix cache;               ///< [B*capacity, 2 Hkv C]: key heads, then value heads. Rows
                              ///< [num_cached, num_cached + S) of each sequence are written
  std::int64_t capacity;      ///< rows of the cache per sequence
  std::int64_t num_cached;    ///< rows per sequence that are filled already
  Matrix output;              ///< [B*S, H C]
  AttentionShape shape;       ///< seq_len is S
  void* workspace = nullptr;  ///< cached_attention_workspace_bytes()
};
void cached_attention(const Launch& launch, const CachedAttentionArgs& args);

std::int64_t cached_attention_workspace_bytes(const Launch& launch,
                                              const CachedAttentionArgs& args);

/// Gradient of attention, from recomputed probabilities: P_ij = exp(s_ij - logsumexp_i),
/// dV = P^T dO, dS = P (dO V^T - rowsum(dO O)), dQ = dS K / sqrt(C), dK = dS^T Q / sqrt(C). With
/// bf16 storage P and dS are rounded to bf16 before they enter a GEMM.
struct AttentionBackwardArgs {
  ConstMatrix q;          ///< [T, H C]
  ConstMatrix kv;         ///< [T, 2 Hkv C]
  ConstMatrix output;     ///< [T, H C]
  ConstMatrix doutput;    ///< [T, H C]
  const void* logsumexp;  ///< as attention() wrote it
  Matrix dq;              ///< [T, H C]; may be `q` if attention_backward_is_in_place()
  Matrix dkv;             ///< [T, 2 Hkv C]; may be `kv` likewise
  AttentionShape shape;
  void* workspace = nullptr;  ///< attention_backward_workspace_bytes()
};
void attention_backward(const Launch& launch, const AttentionBackwardArgs& args);

std::int64_t attention_backward_workspace_bytes(const Launch& launch,
                                                const AttentionBackwardArgs& args);

/// Whether dq and dkv may be q and kv: not with cuDNN.
bool attention_backward_is_in_place(const Launch& launch, const AttentionBackwardArgs& args);

}  // namespace smoe::kernels
