// What a run is validated on.
#pragma once
#include <string>
#include <vector>

#include "train/config/config.h"
#include "train/data/token_set.h"

namespace smoe {

/// A token set whose validation split is evaluated.
struct ValidationSet {
  std::string name;  ///< as in data.sources; empty for the only one
  TokenSet set;
};

/// Opens data.validation, or else the sets to train on; those without validation text are left out.
/// Throws: UsageError when one is not there; what TokenSet::open throws.
std::vector<ValidationSet> open_validation_sets(const DataConfig& config);

}  // namespace smoe
