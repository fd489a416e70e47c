// The part of `smoe doctor` that computes.
#pragma once
#include <string>

#include "train/doctor/finding.h"

namespace smoe {

/// Each family of kernels on the current device against the CPU's in double, forward and backward.
Findings check_kernels();

}  // namespace smoe
