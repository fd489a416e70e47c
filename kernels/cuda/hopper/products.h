// The products of an expert layer on GPUs of compute capability 9.0, by wgmma and TMA: what they
// take, and the products themselves, whose contracts are those of grouped_gemm.h and moe_mlp.h.
#pragma once
#include "kernels/moe_mlp.h"

namespace smoe::kernels::cuda::hopper {

/// As ProductPolicy has it.
bool is_enabled();

/// Matrices like `weight` of that many experts, with rows for them.
bool takes(const Launch& launch, std::int64_t num_experts, const ConstMatrix& weight);
bool takes(const Launch& launch, const GroupedGemmArgs& args);
bool takes(const Launch& launch, const ExpertGradientArgs& args);
bool takes(const Launch& launch, const ExpertUpArgs& args);
bool takes(const Launch& launch, const ExpertDownBackwardArgs& args);

void grouped_gemm(const Launch& launch, const GroupedGemmArgs& args);
/// The weight gradient alone, of experts that have rows; with kTicketBytes of workspace.
constexpr std::int64_t kTicketBytes = 16;
void expert_gradient(const Launch& launch, const ExpertGradientArgs& args);
void expert_up(const Launch& launch, const ExpertUpArgs& args);
/// All but dgates, of which it leaves sums over kPartialCols units in the workspace:
/// [N, ceil(F / kPartialCols)].
constexpr std::int64_t kPartialCols = 256;
void expert_down_backward(const Launch& launch, const ExpertDownBackwardArgs& args);

}  // namespace smoe::kernels::cuda::hopper
