// The part of `smoe doctor` that says what this machine has.
#pragma once
#include <string>

#include "train/doctor/finding.h"

namespace smoe {

/// Program, device, driver and libraries, and which kernels they allow.
Findings check_versions();

}  // namespace smoe
