// The counters that tiles are taken from.
#pragma once
#include "core/base/launch.h"

namespace smoe::kernels::cuda::sm90 {

/// A counter in device memory for the next kernel of the launch's stream, which resets it to 0. Two
/// per stream, in turn: a kernel takes its first tile while the preceding one may still count, but
/// not before the one before that is complete (follow_preceding_kernel).
int* tile_counter(const Launch& launch);

}  // namespace smoe::kernels::cuda::sm90
