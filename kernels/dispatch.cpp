// Backend dispatch: one line per kernel of kernels/*.h, which calls kernels/cpu or kernels/cuda by
// the launch's device. Here an instrument sees each launch and its cost.
#include <type_traits>

#include "core/base/check.h"
#include "kernels/copy_matrix.h"
#include "kernels/cost.h"

// Declares a function of both backends and defines the one that chooses between them. In a dry run
// kernels do nothing; a build without CUDA takes the CPU's workspaces for those of a GPU.
#define SMOE_DISPATCH(Result, function, Args)                               \
  namespace cpu {                                                           \
  Result function(const Launch& launch, const Args& args);                  \
  }                                                                         \
  namespace cuda {                                                          \
  Result function(const Launch& launch, const Args& args);                  \
  }                                                                         \
  Result function(const Launch& launch, const Args& args) {                 \
    const LaunchScope<Result> scope(launch, #function, args);               \
    const DeviceType type = launch.device.type;                             \
    if (std::is_void_v<Result> && launch.device.is_dry()) return Result();  \
    if (type == DeviceType::cpu || type == DeviceType::dry_cpu ||           \
        (type == DeviceType::dry_cuda && !kHasCuda))                        \
      return cpu::function(launch, args);                                   \
    if constexpr (kHasCuda) return cuda::function(launch, args);            \
    throw UsageError(#function ": this build of smoe has no CUDA backend"); \
  }

#ifdef SMOE_HAS_CUDA
constexpr bool kHasCuda = true;
#else
constexpr bool kHasCuda = false;
#endif

namespace smoe::kernels {
namespace cuda {

void push_range(const char* name);
void pop_range();

}  // namespace cuda

namespace {

// Shows the launch of a kernel, a function without a result, to the thread's instrument and to
// NVTX.
template <class Result>
class LaunchScope {
 public:
  template <class Args>
  LaunchScope(const Launch&, const char*, const Args&) {}
};
template <>
class LaunchScope<void> {
 public:
  template <class Args>
  LaunchScope(const Launch& launch, const char* name, const Args& args)
      : launch_(launch), instrument_(current_instrument()) {
    if constexpr (kHasCuda)
      if (launch.device.type == DeviceType::cuda) cuda::push_range(name);
    if (instrument_) instrument_->begin_kernel(launch, name, cost_of(args));
  }
  ~LaunchScope() {
    if (instrument_) instrument_->end_kernel(launch_);
    if constexpr (kHasCuda)
      if (launch_.device.type == DeviceType::cuda) cuda::pop_range();
  }
  LaunchScope(const LaunchScope&) = delete;
  LaunchScope& operator=(const LaunchScope&) = delete;

 private:
  const Launch& launch_;
  Instrument* instrument_;
};

}  // namespace

SMOE_DISPATCH(void, add, AddArgs)
SMOE_DISPATCH(void, scale, ScaleArgs)
SMOE_DISPATCH(void, weighted_sum, WeightedSumArgs)
SMOE_DISPATCH(void, gather_scalars, GatherScalarsArgs)
SMOE_DISPATCH(void, fill, FillArgs)
SMOE_DISPATCH(void, fill_normal, FillNormalArgs)
SMOE_DISPATCH(void, jitter, JitterArgs)
SMOE_DISPATCH(void, dropout, DropoutArgs)
SMOE_DISPATCH(void, scale_by, ScaleByArgs)
SMOE_DISPATCH(void, squared_difference, SquaredDifferenceArgs)
SMOE_DISPATCH(void, scaled_difference, ScaledDifferenceArgs)
SMOE_DISPATCH(void, copy_matrix, CopyMatrixArgs)
SMOE_DISPATCH(void, gemm, GemmArgs)
SMOE_DISPATCH(std::int64_t, gemm_workspace_bytes, GemmArgs)
SMOE_DISPATCH(void, embedding, EmbeddingArgs)
SMOE_DISPATCH(void, embedding_backward, EmbeddingBackwardArgs)
SMOE_DISPATCH(std::int64_t, embedding_backward_workspace_bytes, EmbeddingBackwardArgs)
SMOE_DISPATCH(void, rms_norm, RmsNormArgs)
SMOE_DISPATCH(void, rms_norm_backward, RmsNormBackwardArgs)
SMOE_DISPATCH(std::int64_t, rms_norm_backward_workspace_bytes, RmsNormBackwardArgs)
SMOE_DISPATCH(void, rotary, RotaryArgs)
SMOE_DISPATCH(std::int64_t, rotary_workspace_bytes, RotaryArgs)
SMOE_DISPATCH(void, rotary_gemm, RotaryGemmArgs)
SMOE_DISPATCH(std::int64_t, rotary_gemm_workspace_bytes, RotaryGemmArgs)
SMOE_DISPATCH(void, attention, AttentionArgs)
SMOE_DISPATCH(std::int64_t, attention_workspace_bytes, AttentionArgs)
SMOE_DISPATCH(void, cached_attention, CachedAttentionArgs)
SMOE_DISPATCH(std::int64_t, cached_attention_workspace_bytes, CachedAttentionArgs)
SMOE_DISPATCH(void, attention_backward, AttentionBackwardArgs)
SMOE_DISPATCH(std::int64_t, attention_backward_workspace_bytes, AttentionBackwardArgs)
SMOE_DISPATCH(bool, attention_backward_is_in_place, AttentionBackwardArgs)
SMOE_DISPATCH(void, cross_entropy, CrossEntropyArgs)
SMOE_DISPATCH(void, sum_losses, SumLossesArgs)
SMOE_DISPATCH(void, digest, DigestArgs)
SMOE_DISPATCH(void, adamw, AdamwArgs)
SMOE_DISPATCH(void, split_masters, SplitMastersArgs)
SMOE_DISPATCH(void, join_masters, JoinMastersArgs)
SMOE_DISPATCH(void, sum_of_squares, SumOfSquaresArgs)
SMOE_DISPATCH(std::int64_t, sum_of_squares_workspace_bytes, SumOfSquaresArgs)
SMOE_DISPATCH(void, sequential_sum, SequentialSumArgs)
SMOE_DISPATCH(void, clip_coefficient, ClipCoefficientArgs)
SMOE_DISPATCH(void, update_selection_bias, SelectionBiasArgs)

SMOE_DISPATCH(void, router_forward, RouterForwardArgs)
SMOE_DISPATCH(std::int64_t, router_forward_workspace_bytes, RouterForwardArgs)
SMOE_DISPATCH(void, router_losses, RouterLossesArgs)
SMOE_DISPATCH(void, router_backward, RouterBackwardArgs)
SMOE_DISPATCH(void, add_routing, AddRoutingArgs)
SMOE_DISPATCH(void, group_by_expert, GroupByExpertArgs)
SMOE_DISPATCH(std::int64_t, group_by_expert_workspace_bytes, GroupByExpertArgs)
SMOE_DISPATCH(void, grouped_gemm, GroupedGemmArgs)
SMOE_DISPATCH(std::int64_t, grouped_gemm_workspace_bytes, GroupedGemmArgs)
SMOE_DISPATCH(void, expert_gradient, ExpertGradientArgs)
SMOE_DISPATCH(std::int64_t, expert_gradient_workspace_bytes, ExpertGradientArgs)
SMOE_DISPATCH(void, group, GroupArgs)
SMOE_DISPATCH(void, expert_up, ExpertUpArgs)
SMOE_DISPATCH(std::int64_t, expert_up_workspace_bytes, ExpertUpArgs)
SMOE_DISPATCH(void, expert_down_backward, ExpertDownBackwardArgs)
SMOE_DISPATCH(std::int64_t, expert_down_backward_workspace_bytes, ExpertDownBackwardArgs)
SMOE_DISPATCH(void, activation_forward, ActivationArgs)
SMOE_DISPATCH(void, activation_backward, ActivationBackwardArgs)
SMOE_DISPATCH(void, combine, CombineArgs)
SMOE_DISPATCH(void, combine_gates_backward, CombineGatesBackwardArgs)
SMOE_DISPATCH(void, combine_backward, CombineBackwardArgs)
SMOE_DISPATCH(std::int64_t, combine_backward_workspace_bytes, CombineBackwardArgs)

}  // namespace smoe::kernels
