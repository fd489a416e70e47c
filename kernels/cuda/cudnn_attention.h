// Attention by cuDNN's fused kernels, for bf16. cuDNN is looked for when it is first wanted, so a
// program that was built with it also runs where it is missing.
#pragma once
#include <string>

#include "kernels/attention.h"

namespace smoe::kernels::cuda {

/// What cuDNN plans for: a shape, the elements from one token's row to the next, and whether the
/// backward shall give the same bits each time.
struct CudnnAttentionSizes {
  AttentionShape shape;
  std::int64_t qkv_stride;
  std::int64_t output_stride;
  bool is_deterministic;

  friend bool operator==(const CudnnAttentionSizes&, const CudnnAttentionSizes&) = default;
};

/// "9.19.0"; empty where there is no cuDNN.
std::string cudnn_version(const Launch& launch);

/// Whether cuDNN is there and has a forward and a backward for these sizes on the launch's GPU. The
/// first question about a shape takes seconds: cuDNN plans.
bool cudnn_supports(const Launch& launch, const CudnnAttentionSizes& sizes);

/// As attention(), with bf16 storage, where cudnn_supports() says so.
void cudnn_attention(const Launch& launch, const CudnnAttentionSizes& sizes,
                     const AttentionArgs& args);
std::int64_t cudnn_attention_workspace_bytes(const Launch& launch,
                                             const CudnnAttentionSizes& sizes);

/// As attention_backward(), but dqkv must not lie over qkv, and doutput has the output's stride.
void cudnn_attention_backward(const Launch& launch, const CudnnAttentionSizes& sizes,
                              const AttentionBackwardArgs& args);
std::int64_t cudnn_attention_backward_workspace_bytes(const Launch& launch,
                                                      const CudnnAttentionSizes& sizes);

}  // namespace smoe::kernels::cuda
