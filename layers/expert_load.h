// How evenly a layer's rows fall on its experts, as a few numbers to watch.
#pragma once
#include <cstdint>
#include <span>

namespace smoe {

struct ExpertLoad {
  double imbalance = 0;   ///< largest share times E: 1 at balance, E / K at collapse on K experts
  double entropy = 0;     ///< of the shares over log E: 1 at balance, 0 when one expert has all
  std::int64_t dead = 0;  ///< experts without a row
};

/// The load of one layer from its experts' counts of rows. Without a row all experts are dead and
/// the other two are 0; a single expert with rows is balanced.
/// Throws: UsageError for a negative count or no expert at all.
ExpertLoad expert_load(std::span<const std::int64_t> rows);

}  // namespace smoe
