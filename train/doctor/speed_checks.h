// The part of `smoe doctor` that measures.
#pragma once
#include <string>

#include "train/doctor/finding.h"

namespace smoe {

/// GEMMs and copies on the current device, and its power where NVML tells it.
Findings check_speed();

/// Write, fsync and read of 64 MiB in `folder`.
Findings check_disk(const std::string& folder);

}  // namespace smoe
