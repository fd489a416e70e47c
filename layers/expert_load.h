// Metrics of how evenly a layer's rows are distributed over its experts.
#pragma once
#include <cstdint>
#include <span>

namespace smoe {

struct ExpertLoad {
  double imbalance = 0;  ///< largest share times E: 1 at balance, E / K at collapse on K experts
  double entropy = 0;    ///< of the shares, divided by log E: 1 at balance, 0 if one expert has all
  std::int64_t dead = 0;  ///< experts without rows
};

/// The load of one layer from the number of rows of each expert. Without rows all experts are dead
/// and the other two metrics are 0; a single expert with rows is balanced.
/// Throws: UsageError for a negative count or no experts.
ExpertLoad expert_load(std::span<const std::int64_t> rows);

}  // namespace smoe
