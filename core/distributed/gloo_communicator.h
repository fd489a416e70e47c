// The communicator of ranks on CPUs: gloo/ implements it, none/ stands for it in builds without
// Gloo.
#pragma once
#include <memory>

#include "core/distributed/communicator.h"
#include "core/distributed/rendezvous_store.h"

namespace smoe {

/// Connects ranks on CPUs over TCP with Gloo. All ranks must call it; they exchange addresses
/// through `store`. `timeout_s` bounds connecting and, until set_timeout, each operation.
/// Throws: UsageError in builds without Gloo; SystemError.
std::unique_ptr<Communicator> gloo_communicator(int rank, int world_size, RendezvousStore& store,
                                                double timeout_s);

}  // namespace smoe
