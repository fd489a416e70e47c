// The token sets that a run is validated on.
#pragma once
#include <string>
#include <vector>

#include "train/config/config.h"
#include "train/data/open_token_set.h"

namespace smoe {

/// A token set whose validation split is evaluated.
struct ValidationSet {
  std::string name;  ///< as in data.sources; empty for a single set
  TokenSet set;
};

/// Opens data.validation, or else the training sets, for a model that reads `space`; skips those
/// without validation text.
/// Throws: what open_token_set throws.
std::vector<ValidationSet> open_validation_sets(const DataConfig& config, const TokenSpace& space);

}  // namespace smoe
