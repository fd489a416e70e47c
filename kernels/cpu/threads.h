// The threads that CPU kernels run on. Kernels split work into tasks whose boundaries depend only
// on sizes, and no two tasks write the same element, so results do not depend on the number of
// threads.
#pragma once
#include <cstdint>
#include <functional>

#include "kernels/threads.h"

namespace smoe::kernels::cpu {

/// Of that many usable cores, those that the pool has a thread for.
int bounded_threads(int num_cores);

/// Calls task(i, thread) once for each i in [0, num_tasks), in any order, and returns when all are
/// done. `thread` is in [0, num_threads()) and unique among running tasks: it selects scratch
/// memory. Rethrows the first exception of a task. Tasks must not call parallel_for.
void parallel_for(std::int64_t num_tasks,
                  const std::function<void(std::int64_t i, int thread)>& task);

/// Splits [0, size) into blocks of `block` and calls task(begin, end, thread) for each.
void parallel_blocks(
    std::int64_t size, std::int64_t block,
    const std::function<void(std::int64_t begin, std::int64_t end, int thread)>& task);

}  // namespace smoe::kernels::cpu
