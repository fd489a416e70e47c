// Attention on a GPU: cuDNN's kernels if the policy allows them and cuDNN supports the shape in
// bf16, otherwise simt_attention.
#include "kernels/attention.h"

#include "kernels/cuda/cudnn_attention.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/simt_attention.h"

namespace smoe::kernels::cuda {
namespace {

template <class Args>
CudnnAttentionSizes sizes_of(const Launch& launch, const Args& args) {
  return {args.shape, args.qkv.stride, args.output.stride, launch.policy.deterministic};
}

template <class Args>
bool has_cudnn(const Launch& launch, const Args& args) {
  return launch.policy.cudnn && args.qkv.dtype == DType::bf16 && fits_width(args.qkv) &&
         fits_width(args.output) && cudnn_supports(launch, sizes_of(launch, args));
}
bool uses_cudnn(const Launch& launch, const AttentionArgs& args) {
  return has_cudnn(launch, args);
}
bool uses_cudnn(const Launch& launch, const AttentionBackwardArgs& args) {
  return args.doutput.stride == args.output.stride && args.dqkv.stride == args.qkv.stride &&
         fits_width(args.doutput) && fits_width(args.dqkv) && has_cudnn(launch, args);
}

// cuDNN does not support a dqkv that aliases qkv. Such a gradient is first written to the
// workspace, after cuDNN's own part.
std::int64_t aliased_dqkv_bytes(const AttentionBackwardArgs& args) {
  return args.dqkv.data == args.qkv.data ? args.dqkv.rows * args.dqkv.stride * size_of(DType::bf16)
                                         : 0;
}

}  // namespace

void attention(const Launch& launch, const AttentionArgs& args) {
  if (uses_cudnn(launch, args))
    cudnn_attention(launch, sizes_of(launch, args), args);
  else
    simt_attention(launch, args);
}

std::int64_t attention_workspace_bytes(const Launch& launch, const AttentionArgs& args) {
  return uses_cudnn(launch, args) ? cudnn_attention_workspace_bytes(launch, sizes_of(launch, args))
                                  : 0;
}

void cached_attention(const Launch& launch, const CachedAttentionArgs& args) {
  simt_cached_attention(launch, args);
}

std::int64_t cached_attention_workspace_bytes(const Launch&, const CachedAttentionArgs&) {
  return 0;
}

void attention_backward(const Launch& launch, const AttentionBackwardArgs& args) {
  if (!uses_cudnn(launch, args)) return simt_attention_backward(launch, args);
  AttentionBackwardArgs unaliased = args;
  if (aliased_dqkv_bytes(args) > 0)
    unaliased.dqkv.data =
        static_cast<std::byte*>(args.workspace) +
        ceil_div(cudnn_attention_backward_workspace_bytes(launch, sizes_of(launch, args)), 256) *
            256;
  cudnn_attention_backward(launch, sizes_of(launch, args), unaliased);
  if (aliased_dqkv_bytes(args) > 0) copy_matrix(launch, unaliased.dqkv, args.dqkv);
}

std::int64_t attention_backward_workspace_bytes(const Launch& launch,
                                                const AttentionBackwardArgs& args) {
  if (!uses_cudnn(launch, args)) return simt_attention_backward_workspace_bytes(args);
  return ceil_div(cudnn_attention_backward_workspace_bytes(launch, sizes_of(launch, args)), 256) *
             256 +
         aliased_dqkv_bytes(args);
}

std::string attention_engine(const Launch& launch, const AttentionShape& shape, DType dtype) {
  if (!launch.policy.cudnn || dtype != DType::bf16) return "SIMT flash attention";
  const CudnnAttentionSizes sizes{shape, shape.packed_width(), shape.output_width(),
                                  launch.policy.deterministic};
  const std::string version = cudnn_version(launch);
  if (version.empty()) return "SIMT flash attention: cuDNN is missing";
  const char* kind = launch.policy.deterministic ? "deterministic" : "not deterministic";
  return cudnn_supports(launch, sizes) ? concat("cuDNN ", version, ", ", kind)
                                       : concat("SIMT flash attention: cuDNN ", version,
                                                " has none that are ", kind, " for this shape");
}

}  // namespace smoe::kernels::cuda
