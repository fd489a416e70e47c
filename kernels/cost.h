// The cost of each kernel launch, computed from its arguments alone. A profile divides it by
// measured times; `plan` adds it up over a step that runs on a dry device.
#pragma once
#include "core/base/instrument.h"
#include "kernels/attention.h"
#include "kernels/combine.h"
#include "kernels/copy_matrix.h"
#include "kernels/cross_entropy.h"
#include "kernels/digest.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/gemm.h"
#include "kernels/moe_mlp.h"
#include "kernels/norm.h"
#include "kernels/optimizer.h"
#include "kernels/rotary_gemm.h"
#include "kernels/routing.h"

namespace smoe::kernels {

/// Causal attention counts S/2 keys per query; its backward, which recomputes the scores, 2.5 times
/// the forward. Rows of a table or of weights that a launch may skip are counted.
Cost cost_of(const AddArgs& args);
Cost cost_of(const ScaleArgs& args);
Cost cost_of(const WeightedSumArgs& args);
Cost cost_of(const GatherScalarsArgs& args);
Cost cost_of(const FillArgs& args);
Cost cost_of(const FillNormalArgs& args);
Cost cost_of(const JitterArgs& args);
Cost cost_of(const DropoutArgs& args);
Cost cost_of(const ScaleByArgs& args);
Cost cost_of(const SquaredDifferenceArgs& args);
Cost cost_of(const ScaledDifferenceArgs& args);
Cost cost_of(const CopyMatrixArgs& args);
Cost cost_of(const GemmArgs& args);
Cost cost_of(const EmbeddingArgs& args);
Cost cost_of(const EmbeddingBackwardArgs& args);
Cost cost_of(const RmsNormArgs& args);
Cost cost_of(const RmsNormBackwardArgs& args);
Cost cost_of(const RotaryArgs& args);
Cost cost_of(const RotaryGemmArgs& args);
Cost cost_of(const AttentionArgs& args);
Cost cost_of(const CachedAttentionArgs& args);
Cost cost_of(const AttentionBackwardArgs& args);
Cost cost_of(const CrossEntropyArgs& args);
Cost cost_of(const SumLossesArgs& args);
Cost cost_of(const DigestArgs& args);
Cost cost_of(const AdamwArgs& args);
Cost cost_of(const SplitMastersArgs& args);
Cost cost_of(const JoinMastersArgs& args);
Cost cost_of(const SumOfSquaresArgs& args);
Cost cost_of(const SequentialSumArgs& args);
Cost cost_of(const ClipCoefficientArgs& args);
Cost cost_of(const SelectionBiasArgs& args);
Cost cost_of(const RouterForwardArgs& args);
Cost cost_of(const RouterLossesArgs& args);
Cost cost_of(const RouterBackwardArgs& args);
Cost cost_of(const AddRoutingArgs& args);
Cost cost_of(const GroupByExpertArgs& args);
Cost cost_of(const GroupedGemmArgs& args);
Cost cost_of(const ExpertGradientArgs& args);
Cost cost_of(const GroupArgs& args);
Cost cost_of(const ExpertUpArgs& args);
Cost cost_of(const ExpertDownBackwardArgs& args);
Cost cost_of(const ActivationArgs& args);
Cost cost_of(const ActivationBackwardArgs& args);
Cost cost_of(const CombineArgs& args);
Cost cost_of(const CombineGatesBackwardArgs& args);
Cost cost_of(const CombineBackwardArgs& args);

}  // namespace smoe::kernels
