// Several ranks as threads of one process, connected through their own rendezvous server.
#pragma once
#include <exception>
#include <functional>
#include <thread>
#include <vector>

#include "core/distributed/rendezvous_server.h"
#include "core/distributed/tcp_communicator.h"

namespace smoe::test {

inline void part(Communicator& communicator) {
  try {
    communicator.barrier()->wait();
  } catch (const CommunicationError&) {
  }
}

/// Runs body(communicator, store) on `world_size` ranks, which then disconnect after a barrier if
/// they still can, and rethrows the error of the first rank that failed.
inline void on_ranks(int world_size,
                     const std::function<void(Communicator&, RendezvousStore&)>& body,
                     double timeout_s = 10) {
  const RendezvousServer server({.job_id = "test"});
  std::vector<std::exception_ptr> errors(world_size);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < world_size; ++rank)
    ranks.emplace_back([&, rank] {
      try {
        RendezvousStore store({{"127.0.0.1", server.port()}, "test"}, Deadline::in(timeout_s));
        const auto communicator = tcp_communicator(rank, world_size, store, timeout_s);
        body(*communicator, store);
        part(*communicator);
      } catch (...) {
        errors[rank] = std::current_exception();
      }
    });
  for (std::thread& rank : ranks) rank.join();
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

}  // namespace smoe::test
