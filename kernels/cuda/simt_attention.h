// Attention by our own SIMT kernels: f32 or bf16 storage, f32 arithmetic, head_dim up to 256. They
// are deterministic.
#pragma once
#include "kernels/attention.h"

namespace smoe::kernels::cuda {

/// As attention(), without a workspace.
void simt_attention(const Launch& launch, const AttentionArgs& args);

/// As cached_attention(), without a workspace.
void simt_cached_attention(const Launch& launch, const CachedAttentionArgs& args);

/// As attention_backward(), with simt_attention_backward_workspace_bytes().
void simt_attention_backward(const Launch& launch, const AttentionBackwardArgs& args);
std::int64_t simt_attention_backward_workspace_bytes(const AttentionBackwardArgs& args);

}  // namespace smoe::kernels::cuda
