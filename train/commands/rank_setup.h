// What the commands that train have in common: this rank's device, threads and ranks, and how its
// failure reaches the others.
#pragma once
#include <functional>

#include "train/config/config.h"
#include "train/ranks.h"

namespace smoe {

/// Runs `work` on the device that `config` names, as the rank of its job that the environment
/// names; returns its result. A failure is reported to the other ranks. On a GPU with several ranks
/// it ends the process at once.
int run_on_rank(const Config& config, const std::function<int(Ranks&)>& work);

}  // namespace smoe
