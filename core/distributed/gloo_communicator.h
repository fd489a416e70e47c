// The communicator of ranks on CPUs: gloo/ implements it, none/ stands for it in builds without
// Gloo.
#pragma once
#include <memory>

#include "core/distributed/communicator.h"
#include "core/distributed/rendezvous_store.h"

namespace smoe {

/// For ranks on CPUs, over TCP by way of Gloo. All ranks must call it; `store` is where they find
/// each other. The timeout bounds finding each other as well, and holds until set_timeout.
/// Throws: UsageError in builds without Gloo; SystemError.
std::unique_ptr<Communicator> gloo_communicator(int rank, int world_size, RendezvousStore& store,
                                                double timeout_s);

}  // namespace smoe
