#include "layers/expert_load.h"

#include <algorithm>
#include <cmath>

#include "core/base/check.h"

namespace smoe {

ExpertLoad expert_load(std::span<const std::int64_t> rows) {
  SMOE_CHECK(!rows.empty(), "expert_load: there must be an expert");
  std::int64_t total = 0, largest = 0;
  ExpertLoad load;
  for (const std::int64_t count : rows) {
    SMOE_CHECK(count >= 0, "expert_load: counts must not be negative; got ", count);
    total += count;
    largest = std::max(largest, count);
    load.dead += count == 0;
  }
  if (total == 0) return load;
  const auto num_experts = static_cast<double>(rows.size());
  load.imbalance = static_cast<double>(largest) * num_experts / static_cast<double>(total);
  if (rows.size() == 1) {
    load.entropy = 1;
    return load;
  }
  for (const std::int64_t count : rows) {
    const double share = static_cast<double>(count) / static_cast<double>(total);
    if (count > 0) load.entropy -= share * std::log(share) / std::log(num_experts);
  }
  return load;
}

}  // namespace smoe
