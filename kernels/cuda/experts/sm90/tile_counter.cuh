// The counters that tiles are taken from.
#pragma once
#include "core/base/launch.h"

namespace smoe::kernels::cuda::sm90 {

/// A counter in device memory that is 0 whenever a kernel of the launch's stream starts, because
/// the kernels that count with it reset it. One per stream: kernels of one stream run one at a
/// time.
int* tile_counter(const Launch& launch);

}  // namespace smoe::kernels::cuda::sm90
