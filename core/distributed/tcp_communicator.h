// The communicator of ranks on CPUs.
#pragma once
#include <memory>

#include "core/distributed/communicator.h"
#include "core/distributed/rendezvous_store.h"

namespace smoe {

/// Connects ranks on CPUs over TCP. All ranks must call it; they exchange addresses through
/// `store`. `timeout_s` bounds connecting and, until set_timeout, each operation. Throws:
/// SystemError.
std::unique_ptr<Communicator> tcp_communicator(int rank, int world_size, RendezvousStore& store,
                                               double timeout_s);

}  // namespace smoe
