// RoutingView: one routing decision as kernels see it; autograd/routing_plan.h says what it means.
#pragma once
#include <cstdint>

namespace smoe::kernels {

struct RoutingView {
  std::int64_t num_tokens;                   // T
  std::int64_t top_k;                        // K
  std::int64_t num_experts;                  // E
  const std::int32_t* sorted_scattered_ids;  // [N]
  const std::int32_t* grouped_rows;          // [N]
  const std::int32_t* expert_offsets;        // [E+1]

  std::int64_t num_rows() const { return num_tokens * top_k; }
};

}  // namespace smoe::kernels
