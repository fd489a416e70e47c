// ParallelLinear alone, in any pair of layouts, as variants of a benchmark.
#pragma once
#include <memory>

#include "train/bench/expert_variant.h"

namespace smoe {

inline constexpr VariantKind kLinearVariants[] = {VariantKind::smoe, VariantKind::smoe_no_reuse,
                                                  VariantKind::gathered,
                                                  VariantKind::moe_mlp_gemms};

/// Of inputs with a mode: dw1 is the gradient of the weight, dw2 that of the bias.
///   smoe            the op parallel_linear
///   smoe_no_reuse   the same kernels, each result of backward in a buffer of its own
///   gathered        copies of x and dy in grouped order, GEMMs of grouped rows, copies back
///   moe_mlp_gemms   what moe_mlp runs for a projection of these sizes, without bias: its down
///                   projection with gates, else its up projection; another function
std::unique_ptr<ExpertVariant> make_linear_variant(VariantKind kind, const ExpertInputs& inputs);

}  // namespace smoe
