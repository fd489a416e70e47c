// RoutingPlan: which rows go to which expert, as index tensors. "Sort indices by expert, pad
// indices and never data" (ScatterMoE, arXiv:2403.08245): no array of activations is ever moved to
// sort it.
#pragma once
#include "core/tensor.h"

namespace smoe {

/// One routing decision of T tokens to K of E experts each; N = T*K. A pair (t, j) has the
/// scattered id t*K + j; grouped rows are the pairs sorted by expert, stably.
struct RoutingPlan {
  std::int64_t num_tokens = 0;   // T
  std::int64_t top_k = 0;        // K
  std::int64_t num_experts = 0;  // E
  Tensor expert_ids;             // i32 [T, K], a token's experts by falling score
  Tensor sorted_scattered_ids;   // i32 [N], scattered id of each grouped row
  Tensor grouped_rows;           // i32 [N], grouped row of each scattered id: the inverse of it
  Tensor expert_offsets;         // i32 [E+1], first grouped row of each expert; the last is N

  std::int64_t num_rows() const { return num_tokens * top_k; }
};

/// The plan of a choice that is already made: expert_ids i32 [T, K], each in [0, num_experts).
/// Throws: UsageError for another shape or dtype, or for 2^31 rows or more. The ids are trusted.
RoutingPlan plan_routing(const Tensor& expert_ids, std::int64_t num_experts);

}  // namespace smoe
