// The part of `smoe doctor` that says what this machine has.
#pragma once
#include <string>

#include "train/doctor/finding.h"

namespace smoe {

/// Program, device, driver and libraries, and which kernels they allow.
Findings check_versions();

/// The library of CPU GEMMs, and whether it has recognized this CPU: "OpenBLAS Prescott".
Finding cpu_gemm_finding(const std::string& engine);

}  // namespace smoe
