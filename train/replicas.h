// Replica check: compares the state that must be identical on all ranks, so that a flipped bit or a
// wrong result on one rank is detected and reported instead of corrupting the run.
#pragma once
#include <cstdint>
#include <functional>

#include "core/distributed/communicator.h"
#include "core/state.h"

namespace smoe {

/// Compares digests of everything that `visit` visits over all ranks, and, if they differ, of what
/// `visit_parts` visits: the same state, under the names to report. Fast if `visit` visits few
/// large tensors. A collective operation. Throws: SystemError, the same on all ranks, naming the
/// first tensor or number that differs and the ranks that differ from the majority. Two ranks have
/// no majority, and the message says so.
void check_replicas(Communicator& communicator, const std::function<void(StateVisitor&)>& visit,
                    const std::function<void(StateVisitor&)>& visit_parts);

}  // namespace smoe
