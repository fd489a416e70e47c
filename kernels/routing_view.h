// RoutingView: one routing of T tokens to K of E experts each, as kernels see it.
//
// N = T*K routed rows exist, one per pair (token t, slot j). A pair's scattered id is t*K + j. The
// grouped rows are the pairs sorted stably by expert, so that the rows of an expert are contiguous.
// Only indices are sorted and padded; activations are never moved to sort them (ScatterMoE,
// arXiv:2403.08245).
#pragma once
#include <cstdint>

namespace smoe::kernels {

/// The order of routed rows in an array.
enum class RowLayout : std::uint8_t {
  grouped,    ///< [N, D]: the rows of expert 0, then of expert 1, ...
  scattered,  ///< [N, D]: row t*K + j belongs to slot j of token t; or [T, D]: one row per token
};

struct RoutingView {
  std::int64_t num_tokens;                   ///< T
  std::int64_t top_k;                        ///< K
  std::int64_t num_experts;                  ///< E
  const std::int32_t* sorted_scattered_ids;  ///< [N], the scattered id of each grouped row
  const std::int32_t* grouped_rows;          ///< [N], the grouped row of each scattered id
  const std::int32_t* expert_offsets;  ///< [E+1], the first grouped row of each expert, then N

  std::int64_t num_rows() const { return num_tokens * top_k; }  ///< N
};

}  // namespace smoe::kernels
