// The token sets that a run is validated on.
#pragma once
#include <string>
#include <vector>

#include "train/config/config.h"
#include "train/data/token_set.h"

namespace smoe {

/// A token set whose validation split is evaluated.
struct ValidationSet {
  std::string name;  ///< as in data.sources; empty for a single set
  TokenSet set;
};

/// Opens data.validation, or else the training sets; skips those without validation text.
/// Throws: UsageError when one does not exist; what TokenSet::open throws.
std::vector<ValidationSet> open_validation_sets(const DataConfig& config);

}  // namespace smoe
