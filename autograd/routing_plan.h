// RoutingPlan: which rows go to which expert, as index tensors. Kernels gather and scatter rows by
// these indices; no array of activations is ever copied to sort or pad it (ScatterMoE,
// arXiv:2403.08245).
#pragma once
#include "core/tensor.h"

namespace smoe {

/// One assignment of T tokens to K of E experts each; N = T*K. A pair (t, j) has the scattered id
/// t*K + j; grouped rows are the pairs sorted stably by expert.
struct RoutingPlan {
  std::int64_t num_tokens = 0;   // T
  std::int64_t top_k = 0;        // K
  std::int64_t num_experts = 0;  // E
  Tensor expert_ids;             // i32 [T, K], a token's experts in descending order of score
  Tensor sorted_scattered_ids;   // i32 [N], scattered id of each grouped row
  Tensor grouped_rows;           // i32 [N], grouped row of each scattered id: the inverse of it
  Tensor expert_offsets;         // i32 [E+1], first grouped row of each expert; the last is N

  std::int64_t num_rows() const { return num_tokens * top_k; }
};

}  // namespace smoe
