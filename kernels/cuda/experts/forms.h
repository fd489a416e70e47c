// The forms of the expert GEMMs, and of the GEMM with rotary embedding, which runs as that of one
// expert. Each implements the functions of grouped_gemm.h and moe_mlp.h with the config that
// choose() returned; the front doors experts/*.cu do the rest: checks, empty experts, bias
// gradients, and dgates from partials.
#pragma once
#include "kernels/cuda/experts/choose.h"
#include "kernels/moe_mlp.h"
#include "kernels/rotary_gemm.h"

namespace smoe::kernels::cuda {

/// Device limits of the launch's device.
DeviceLimits device_limits(const Launch& launch);

namespace simt {
void grouped_gemm(const Launch&, const GroupedGemmArgs&, const ExpertGemmConfig&);
/// dweight of experts that have rows.
void weight_gradient(const Launch&, const ExpertGradientArgs&, const ExpertGemmConfig&);
void expert_up(const Launch&, const ExpertUpArgs&, const ExpertGemmConfig&);
/// All but dgates, whose partials [N, config.num_partials(F)] it leaves in the workspace.
void expert_down_backward(const Launch&, const ExpertDownBackwardArgs&, const ExpertGemmConfig&);
}  // namespace simt

namespace sm80 {
void grouped_gemm(const Launch&, const GroupedGemmArgs&, const ExpertGemmConfig&);
void weight_gradient(const Launch&, const ExpertGradientArgs&, const ExpertGemmConfig&);
void expert_up(const Launch&, const ExpertUpArgs&, const ExpertGemmConfig&);
void expert_down_backward(const Launch&, const ExpertDownBackwardArgs&, const ExpertGemmConfig&);
}  // namespace sm80

namespace sm90 {
void grouped_gemm(const Launch&, const GroupedGemmArgs&, const ExpertGemmConfig&);
/// dweight of all experts.
void weight_gradient(const Launch&, const ExpertGradientArgs&, const ExpertGemmConfig&);
void expert_up(const Launch&, const ExpertUpArgs&, const ExpertGemmConfig&);
void expert_down_backward(const Launch&, const ExpertDownBackwardArgs&, const ExpertGemmConfig&);
/// What fuses_rotary(), with the accumulator_angles().
void rotary_gemm(const Launch&, const RotaryGemmArgs&, const float* angles);
}  // namespace sm90

/// Calls the function of the chosen form.
template <class Args>
void run_form(const Launch& launch, const Args& args, const ExpertGemmConfig& config,
              void (*simt)(const Launch&, const Args&, const ExpertGemmConfig&),
              void (*sm80)(const Launch&, const Args&, const ExpertGemmConfig&),
              void (*sm90)(const Launch&, const Args&, const ExpertGemmConfig&)) {
  switch (config.form) {
    case ExpertGemmForm::simt:
      return simt(launch, args, config);
    case ExpertGemmForm::sm80:
      return sm80(launch, args, config);
    case ExpertGemmForm::sm90:
      return sm90(launch, args, config);
  }
}

}  // namespace smoe::kernels::cuda
