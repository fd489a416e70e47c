// Attention by cuDNN's fused kernels, for bf16. cuDNN is loaded on first use, so a program that was
// built with it also runs where it is missing.
#pragma once
#include <string>

#include "kernels/attention.h"

namespace smoe::kernels::cuda {

/// The key of a cuDNN execution plan: shape, row strides in elements, and whether the backward must
/// be deterministic.
struct CudnnAttentionSizes {
  AttentionShape shape;
  std::int64_t q_stride;
  std::int64_t kv_stride;
  std::int64_t output_stride;
  bool is_deterministic;

  friend bool operator==(const CudnnAttentionSizes&, const CudnnAttentionSizes&) = default;
};

/// E.g. "9.19.0"; empty if cuDNN is not available.
std::string cudnn_version(const Launch& launch);

/// Whether cuDNN is available and supports forward and backward of these sizes on the launch's GPU.
/// The first call for a shape takes seconds, because cuDNN builds its plans.
bool cudnn_supports(const Launch& launch, const CudnnAttentionSizes& sizes);

/// As attention(), with bf16 storage. Requires cudnn_supports().
void cudnn_attention(const Launch& launch, const CudnnAttentionSizes& sizes,
                     const AttentionArgs& args);
std::int64_t cudnn_attention_workspace_bytes(const Launch& launch,
                                             const CudnnAttentionSizes& sizes);

/// As attention_backward(), but dq and dkv must not alias q and kv, and have their strides, as
/// doutput has that of output.
void cudnn_attention_backward(const Launch& launch, const CudnnAttentionSizes& sizes,
                              const AttentionBackwardArgs& args);
std::int64_t cudnn_attention_backward_workspace_bytes(const Launch& launch,
                                                      const CudnnAttentionSizes& sizes);

}  // namespace smoe::kernels::cuda
