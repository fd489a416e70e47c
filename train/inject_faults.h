// Faults in computed values, for tests of whole programs.
#pragma once
#include "autograd/tape.h"

namespace smoe {

/// A TrainStep observer that applies the faults of core/system/fault.h to the first element of the
/// values at each site: `nan` makes it a NaN, an errno 0.5, as a flipped bit would.
void inject_faults(const char* site, const Tensor& values);

/// inject_faults in a build with tests whose environment has SMOE_FAULT, else null.
ValueObserver fault_observer();

}  // namespace smoe
