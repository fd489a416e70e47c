// The sizes and routings expert kernels and ops are tested at, and the way between grouped rows and
// the references' (token, slot) order.
#pragma once
#include <string>
#include <vector>

#include "core/base/check.h"
#include "kernels/grouped_gemm.h"
#include "tests/reference/moe.h"
#include "tests/support/routing_plans.h"

namespace smoe::test {

struct MoeCase {
  std::int64_t num_tokens, top_k, num_experts, d, f;
  Spread spread = Spread::uniform;

  std::string name() const {
    return concat("T ", num_tokens, " K ", top_k, " E ", num_experts, " D ", d, " F ", f,
                  " spread ", static_cast<int>(spread));
  }
  std::vector<std::int32_t> expert_ids() const {
    return expert_ids_of(num_tokens, top_k, num_experts, spread);
  }
  RoutingPlan plan() const { return plan_of(expert_ids(), top_k, num_experts); }
  reference::Routed routed() const { return {num_tokens, top_k, num_experts, expert_ids()}; }
};

/// One of each dimension, tails, no tokens, experts without rows (first, last and in the middle),
/// all rows on one expert, every K up to E, more rows per expert than a tile.
inline const std::vector<MoeCase>& moe_cases() {
  using enum Spread;
  static const std::vector<MoeCase> cases = {
      {1, 1, 1, 1, 1},
      {0, 2, 4, 3, 5},
      {1, 1, 8, 3, 2},
      {1, 3, 3, 2, 7},
      {2, 2, 2, 1, 1},
      {3, 1, 2, 17, 9},
      {5, 2, 4, 8, 16},
      {7, 3, 8, 5, 3, ends_empty},
      {7, 2, 5, 6, 4, middle_empty},
      {9, 1, 4, 3, 33, one_expert},
      {9, 2, 4, 33, 3, one_expert},
      {16, 4, 4, 4, 4},
      {31, 2, 16, 7, 12},
      {33, 1, 3, 16, 8, ends_empty},
      {40, 5, 6, 9, 10, middle_empty},
      {63, 8, 8, 3, 4},
      {64, 2, 8, 24, 20},
      {65, 6, 7, 2, 13, one_expert},
      {100, 1, 2, 12, 40},
      {129, 2, 3, 10, 6},
      {290, 1, 2, 5, 6, one_expert},
      {300, 2, 4, 40, 36},
  };
  return cases;
}

/// Cases with more columns or rows than a tile and its subtiles, for kernel tests only.
inline const std::vector<MoeCase>& wide_moe_cases() {
  static const std::vector<MoeCase> cases = {
      {40, 2, 4, 300, 530},
      {30, 2, 4, 530, 540, Spread::ends_empty},
      {20, 2, 3, 9, 1100, Spread::middle_empty},
      {300, 2, 2, 260, 270, Spread::one_expert},
      {1100, 1, 2, 5, 6, Spread::one_expert},
  };
  return cases;
}

/// Reorders rows from (token, slot) order to `layout`.
inline std::vector<double> to_layout(const std::vector<double>& pairs, const RoutingPlan& plan,
                                     kernels::RowLayout layout) {
  if (layout == kernels::RowLayout::scattered || pairs.empty()) return pairs;
  const auto ids = plan.sorted_scattered_ids.to_vector<std::int32_t>();
  const std::size_t cols = pairs.size() / ids.size();
  std::vector<double> grouped;
  for (const std::int32_t id : ids)
    grouped.insert(grouped.end(), pairs.begin() + id * cols, pairs.begin() + (id + 1) * cols);
  return grouped;
}

/// Reorders rows from `layout` to (token, slot) order.
inline std::vector<double> from_layout(const std::vector<double>& rows, const RoutingPlan& plan,
                                       kernels::RowLayout layout) {
  if (layout == kernels::RowLayout::scattered || rows.empty()) return rows;
  const auto ids = plan.sorted_scattered_ids.to_vector<std::int32_t>();
  const std::size_t cols = rows.size() / ids.size();
  std::vector<double> pairs(rows.size());
  for (std::size_t p = 0; p < ids.size(); ++p)
    std::copy_n(rows.begin() + p * cols, cols, pairs.begin() + ids[p] * cols);
  return pairs;
}

}  // namespace smoe::test
