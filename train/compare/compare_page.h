// The page of `smoe compare`.
#pragma once
#include <string>
#include <vector>

#include "train/compare/compare.h"

namespace smoe {

/// One self-contained page: curves of all runs over each other, results, keys that differ.
std::string compare_page(const std::vector<ComparedRun>& runs);

}  // namespace smoe
