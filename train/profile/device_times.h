// Times of the kernels that a GPU ran, for the launches that queued them.
#pragma once
#include <vector>

#include "train/profile/recording.h"

namespace smoe {

/// Gives each launch of `recording` the times of its kernels, which are `device`, in order of their
/// begins; `recording` keeps them. A kernel may begin before the preceding one ends, and wait for
/// it: such a time counts for the one that began first, so that kernels and gaps add up to a step.
/// Kernels of no launch, such as NCCL's, run beside the others and count whole.
void add_device_times(std::vector<DeviceSample> device, Recording& recording);

}  // namespace smoe
