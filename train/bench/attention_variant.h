// A mixture of attention (arXiv:2403.08245, section 3.3) as variants of a benchmark: projections of
// queries and outputs by expert, keys and values shared; without its router and rotary embedding.
#pragma once
#include <memory>

#include "kernels/attention_shape.h"
#include "train/bench/expert_variant.h"

namespace smoe {

inline constexpr VariantKind kAttentionVariants[] = {VariantKind::smoe, VariantKind::copied,
                                                     VariantKind::gathered};

/// Query head h of a token is head h mod Hkv of its slot h / Hkv, and reads key head h mod Hkv.
kernels::AttentionShape attention_shape(const ExpertShape& shape, const AttentionMode& mode);

/// Of inputs with an attention mode: dw1, dw2 and dw3 are the gradients of the weights of queries,
/// outputs, and keys and values.
///   smoe       ParallelLinear from scattered rows to scattered rows and to gates
///   copied     each of them as a copy to grouped order, a grouped GEMM and a copy back; then gates
///   gathered   the same, with gates that read grouped rows, instead of the last copy
std::unique_ptr<ExpertVariant> make_attention_variant(VariantKind kind, const ExpertInputs& inputs);

}  // namespace smoe
