// Connects every two ranks of a job over TCP. Strangers who connect to a rank's port are dropped:
// each side proves with a token from the rendezvous, which only members of the job can read, that
// it belongs to the job, before anything else is sent.
#pragma once
#include <vector>

#include "core/distributed/rendezvous_store.h"
#include "core/system/socket.h"

namespace smoe {

/// The connections to the other ranks, by rank; that of `rank` itself is closed. All ranks must
/// call it. A rank listens on the address from which it reaches the rendezvous, or on the interface
/// that the variable SMOE_SOCKET_IFNAME names, and only until all have connected.
/// Throws: CommunicationError naming a rank that did not connect in time; the errors of the store.
std::vector<Socket> connect_ranks(int rank, int world_size, RendezvousStore& store,
                                  const Deadline& deadline);

}  // namespace smoe
