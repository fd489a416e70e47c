// Routing plans for tests, from given expert ids by a plain stable sort, and expert ids with
// distributions that stress kernels: balanced, skewed, experts without rows.
#pragma once
#include <algorithm>
#include <numeric>
#include <vector>

#include "autograd/ops/views.h"
#include "core/random.h"

namespace smoe::test {

/// The plan of expert_ids [T, K] over E experts.
inline RoutingPlan plan_of(const std::vector<std::int32_t>& expert_ids, std::int64_t top_k,
                           std::int64_t num_experts) {
  const auto num_rows = static_cast<std::int64_t>(expert_ids.size());
  std::vector<std::int32_t> sorted(num_rows), rows(num_rows);
  std::vector<std::int32_t> offsets(num_experts + 1, 0);
  std::iota(sorted.begin(), sorted.end(), 0);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](int a, int b) { return expert_ids[a] < expert_ids[b]; });
  for (std::int64_t row = 0; row < num_rows; ++row) {
    rows[sorted[row]] = static_cast<std::int32_t>(row);
    ++offsets[expert_ids[sorted[row]] + 1];
  }
  std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
  return {num_rows / top_k,
          top_k,
          num_experts,
          Tensor::from(expert_ids, {num_rows / top_k, top_k}),
          Tensor::from(sorted, {num_rows}),
          Tensor::from(rows, {num_rows}),
          Tensor::from(offsets, {num_experts + 1})};
}

/// The distribution of rows over experts. `ends_empty`: the first and last expert get none;
/// `middle_empty`: the middle one gets none; `one_expert`: each slot's rows all go to one expert.
enum class Spread { uniform, ends_empty, middle_empty, one_expert };

/// K distinct experts per token for T tokens. If a spread leaves fewer than K experts, uniform is
/// used.
inline std::vector<std::int32_t> expert_ids_of(std::int64_t num_tokens, std::int64_t top_k,
                                               std::int64_t num_experts, Spread spread) {
  std::vector<std::int32_t> allowed(num_experts);
  std::iota(allowed.begin(), allowed.end(), 0);
  const auto keep = [&](auto&& may_stay) {
    std::vector<std::int32_t> kept;
    std::copy_if(allowed.begin(), allowed.end(), std::back_inserter(kept), may_stay);
    if (static_cast<std::int64_t>(kept.size()) >= top_k) allowed = kept;
  };
  if (spread == Spread::ends_empty) keep([&](int e) { return e != 0 && e != num_experts - 1; });
  if (spread == Spread::middle_empty) keep([&](int e) { return e != num_experts / 2; });
  if (spread == Spread::one_expert) keep([&](int e) { return e >= num_experts - top_k; });
  RandomStream stream(11, num_tokens * 1000 + top_k, num_experts);
  std::vector<std::int32_t> ids;
  for (std::int64_t t = 0; t < num_tokens; ++t) {
    for (std::int64_t j = 0; j < top_k; ++j) {
      const auto other = j + static_cast<std::int64_t>(stream.below(allowed.size() - j));
      if (spread != Spread::one_expert) std::swap(allowed[j], allowed[other]);
      ids.push_back(allowed[j]);
    }
  }
  return ids;
}

}  // namespace smoe::test
