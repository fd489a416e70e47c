// Known failure modes of mixture-of-experts training that a configuration shows before it runs.
#pragma once
#include <cstdint>
#include <vector>

#include "train/plan/plan.h"

namespace smoe {

/// The warnings for a plan, in a fixed order of topics. Reads every member but `warnings`;
/// `device_bytes` is the memory of the device to run on; 0: not known.
std::vector<PlanWarning> warnings_of(const Plan& plan, std::int64_t device_bytes);

}  // namespace smoe
