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
  return {args.shape, args.q.stride, args.kv.stride, args.output.stride,
          launch.policy.deterministic};
}

template <class Args>
bool has_cudnn(const Launch& launch, const Args& args) {
  return launch.policy.cudnn && args.q.dtype == DType::bf16 && fits_width(args.q) &&
         fits_width(args.kv) && fits_width(args.output) && !launch.device.is_dry() &&
         cudnn_supports(launch, sizes_of(launch, args));
}
bool uses_cudnn(const Launch& launch, const AttentionArgs& args) {
  return has_cudnn(launch, args);
}
bool uses_cudnn(const Launch& launch, const AttentionBackwardArgs& args) {
  return args.doutput.stride == args.output.stride && args.dq.stride == args.q.stride &&
         args.dkv.stride == args.kv.stride && fits_width(args.doutput) && fits_width(args.dq) &&
         fits_width(args.dkv) && has_cudnn(launch, args);
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
  SMOE_INTERNAL_CHECK(args.dq.data != args.q.data && args.dkv.data != args.kv.data,
                      "attention_backward: cuDNN needs gradients apart from q and kv");
  cudnn_attention_backward(launch, sizes_of(launch, args), args);
}

std::int64_t attention_backward_workspace_bytes(const Launch& launch,
                                                const AttentionBackwardArgs& args) {
  return uses_cudnn(launch, args)
             ? cudnn_attention_backward_workspace_bytes(launch, sizes_of(launch, args))
             : simt_attention_backward_workspace_bytes(args);
}

bool attention_backward_is_in_place(const Launch& launch, const AttentionBackwardArgs& args) {
  return !uses_cudnn(launch, args);
}

std::string attention_engine(const Launch& launch, const AttentionShape& shape, DType dtype) {
  if (!launch.policy.cudnn || dtype != DType::bf16) return "SIMT flash attention";
  // As models call it, so that no other plan is built: interleaved heads are those of a mixture of
  // attention, which projects queries apart from keys and values.
  const bool is_apart = shape.is_interleaved;
  const CudnnAttentionSizes sizes{
      .shape = shape,
      .q_stride = is_apart ? shape.output_width() : shape.packed_width(),
      .kv_stride = is_apart ? shape.kv_width() : shape.packed_width(),
      .output_stride = shape.output_width(),
      .is_deterministic = launch.policy.deterministic};
  const std::string version = cudnn_version(launch);
  if (version.empty()) return "SIMT flash attention: cuDNN is missing";
  const char* kind = launch.policy.deterministic ? "deterministic" : "not deterministic";
  return cudnn_supports(launch, sizes) ? concat("cuDNN ", version, ", ", kind)
                                       : concat("SIMT flash attention: cuDNN ", version,
                                                " has none that are ", kind, " for this shape");
}

}  // namespace smoe::kernels::cuda
