// The threads CPU kernels run on. Work is cut into tasks whose borders depend on sizes alone, and
// no two tasks write the same element, so results do not depend on the number of threads.
#pragma once
#include <cstdint>
#include <functional>

#include "kernels/threads.h"

namespace smoe::kernels::cpu {

/// Calls task(i, thread) for every i in [0, num_tasks), each once, in no order, and returns when
/// all are done. `thread` is in [0, num_threads()) and no two running tasks share it: it picks
/// scratch memory. The first exception a task throws is rethrown here. Tasks must not call
/// parallel_for.
void parallel_for(std::int64_t num_tasks,
                  const std::function<void(std::int64_t i, int thread)>& task);

/// Cuts [0, size) into blocks of `block` and calls task(begin, end, thread) for each.
void parallel_blocks(
    std::int64_t size, std::int64_t block,
    const std::function<void(std::int64_t begin, std::int64_t end, int thread)>& task);

}  // namespace smoe::kernels::cpu
