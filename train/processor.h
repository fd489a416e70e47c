// The processor that a run's bits depend on.
#pragma once
#include <string>

#include "core/base/launch.h"

namespace smoe {

/// What chooses kernels at run time: "AMD EPYC 9654 96-Core Processor, OpenBLAS SkylakeX", or the
/// name of a GPU.
std::string processor_of(Device device);

}  // namespace smoe
