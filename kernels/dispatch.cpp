// Backend dispatch: one line per kernel of kernels/*.h, which calls kernels/cpu or kernels/cuda by
// the launch's device.
#include "core/base/check.h"
#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/combine.h"
#include "kernels/cross_entropy.h"
#include "kernels/digest.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/gemm.h"
#include "kernels/grouped_gemm.h"
#include "kernels/moe_mlp.h"
#include "kernels/norm.h"
#include "kernels/optimizer.h"
#include "kernels/rotary.h"
#include "kernels/routing.h"

#ifdef SMOE_HAS_CUDA
#define SMOE_ON_CUDA(Result, function, Args)               \
  namespace cuda {                                         \
  Result function(const Launch& launch, const Args& args); \
  }
#else
#define SMOE_ON_CUDA(Result, function, Args)                                        \
  namespace cuda {                                                                  \
  Result function(const Launch&, const Args&) {                                     \
    throw ::smoe::UsageError(#function ": this build of smoe has no CUDA backend"); \
  }                                                                                 \
  }
#endif

// `dry_result` is the result of a dry run: kernels do nothing, workspace sizes are the CPU's.
#define SMOE_FUNCTION(Result, function, Args, dry_result)                        \
  namespace cpu {                                                                \
  Result function(const Launch& launch, const Args& args);                       \
  }                                                                              \
  SMOE_ON_CUDA(Result, function, Args)                                           \
  Result function(const Launch& launch, const Args& args) {                      \
    if (launch.device.type == DeviceType::dry) return dry_result;                \
    return launch.device.type == DeviceType::cpu ? cpu::function(launch, args)   \
                                                 : cuda::function(launch, args); \
  }

#define SMOE_KERNEL(kernel, Args) SMOE_FUNCTION(void, kernel, Args, )
#define SMOE_KERNEL_WITH_WORKSPACE(kernel, Args)              \
  SMOE_KERNEL(kernel, Args)                                   \
  SMOE_FUNCTION(std::int64_t, kernel##_workspace_bytes, Args, \
                cpu::kernel##_workspace_bytes(launch, args))

namespace smoe::kernels {

SMOE_KERNEL(add, AddArgs)
SMOE_KERNEL(scale, ScaleArgs)
SMOE_KERNEL(fill, FillArgs)
SMOE_KERNEL(jitter, JitterArgs)
SMOE_KERNEL_WITH_WORKSPACE(gemm, GemmArgs)
SMOE_KERNEL(embedding, EmbeddingArgs)
SMOE_KERNEL_WITH_WORKSPACE(embedding_backward, EmbeddingBackwardArgs)
SMOE_KERNEL(rms_norm, RmsNormArgs)
SMOE_KERNEL_WITH_WORKSPACE(rms_norm_backward, RmsNormBackwardArgs)
SMOE_KERNEL_WITH_WORKSPACE(rotary, RotaryArgs)
SMOE_KERNEL_WITH_WORKSPACE(attention, AttentionArgs)
SMOE_KERNEL_WITH_WORKSPACE(cached_attention, CachedAttentionArgs)
SMOE_KERNEL_WITH_WORKSPACE(attention_backward, AttentionBackwardArgs)
SMOE_KERNEL(cross_entropy, CrossEntropyArgs)
SMOE_KERNEL(sum_losses, SumLossesArgs)
SMOE_KERNEL(digest, DigestArgs)
SMOE_KERNEL(adamw, AdamwArgs)
SMOE_KERNEL_WITH_WORKSPACE(sum_of_squares, SumOfSquaresArgs)
SMOE_KERNEL(sequential_sum, SequentialSumArgs)
SMOE_KERNEL(clip_coefficient, ClipCoefficientArgs)
SMOE_KERNEL(update_selection_bias, SelectionBiasArgs)

SMOE_KERNEL_WITH_WORKSPACE(router_forward, RouterForwardArgs)
SMOE_KERNEL(router_losses, RouterLossesArgs)
SMOE_KERNEL(router_backward, RouterBackwardArgs)
SMOE_KERNEL(add_expert_load, AddExpertLoadArgs)
SMOE_KERNEL_WITH_WORKSPACE(group_by_expert, GroupByExpertArgs)
SMOE_KERNEL_WITH_WORKSPACE(grouped_gemm, GroupedGemmArgs)
SMOE_KERNEL_WITH_WORKSPACE(expert_gradient, ExpertGradientArgs)
SMOE_KERNEL(group, GroupArgs)
SMOE_KERNEL_WITH_WORKSPACE(expert_up, ExpertUpArgs)
SMOE_KERNEL_WITH_WORKSPACE(expert_down_backward, ExpertDownBackwardArgs)
SMOE_KERNEL(activation_forward, ActivationArgs)
SMOE_KERNEL(activation_backward, ActivationBackwardArgs)
SMOE_KERNEL(combine, CombineArgs)
SMOE_KERNEL(combine_gates_backward, CombineGatesBackwardArgs)

}  // namespace smoe::kernels
