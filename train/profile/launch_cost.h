// What timing events show for a launch itself.
#pragma once

namespace smoe {

/// Milliseconds between the timing events around the shortest kernel there is, on the current
/// stream, a GPU's, which is idle afterwards: the device's time for an event, and from one kernel
/// to the next. Takes some milliseconds and 128 MiB. Throws: OutOfMemory.
double measure_launch_cost();

}  // namespace smoe
