// Replicas: what must be the same on all ranks is compared now and then, so that a flipped bit or a
// wrong result on one of them is found and named rather than trained on.
#pragma once
#include <cstdint>
#include <functional>

#include "core/distributed/communicator.h"
#include "core/state.h"

namespace smoe {

/// Compares what `visit` shows by digests over all ranks, all of which must call this together.
/// Throws: SystemError, the same on all ranks, naming the first piece that differs and the ranks
/// where it is not as on most; which of two ranks is right nobody knows, and it says so.
void check_replicas(Communicator& ranks, const std::function<void(StateVisitor&)>& visit);

}  // namespace smoe
