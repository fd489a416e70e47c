// The heat map of expert load: which experts got how much, when.
#pragma once
#include <string>
#include <vector>

#include "train/report/history.h"

namespace smoe {

/// Experts, layer after layer, from top to bottom, steps from left to right up to `last_step`; the
/// colour says how far from balance an expert's load is. Where a layer has too many experts to be
/// told apart, neighbours share a row, which shows the one farthest from balance. Empty without
/// loads.
std::string load_map(const std::vector<LoadBin>& loads, double last_step);

}  // namespace smoe
