// Known failure modes of mixture-of-experts training that a configuration shows before it runs.
#pragma once
#include <cstdint>
#include <vector>

#include "train/plan/plan.h"

namespace smoe {

/// The warnings for a plan, in a fixed order of topics. Reads every member but `warnings`;
/// `machine_bytes` is the memory of this machine.
std::vector<PlanWarning> warnings_of(const Plan& plan, std::int64_t machine_bytes);

}  // namespace smoe
