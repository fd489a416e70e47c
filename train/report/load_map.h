// The heat map of expert load over steps.
#pragma once
#include <string>
#include <vector>

#include "train/report/history.h"

namespace smoe {

/// The experts of all layers from top to bottom and steps from left to right up to `last_step`; the
/// color shows how far an expert's load is from an even share, and the pointer reads expert, layer,
/// steps and share. The page's script draws it. With very many experts, adjacent ones share a row
/// that shows the one farthest from an even share. `names` are those of the routers, where a layer
/// has several. Empty without loads.
std::string load_map(const std::vector<LoadBin>& loads, double last_step,
                     const std::vector<std::string>& names = {});

}  // namespace smoe
