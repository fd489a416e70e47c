// Several ranks as threads of one process, connected through their own rendezvous server.
#pragma once
#include <exception>
#include <functional>
#include <mutex>
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
/// they still can, and rethrows the error that came first: those of other ranks may follow from it.
inline void on_ranks(int world_size,
                     const std::function<void(Communicator&, RendezvousStore&)>& body,
                     double timeout_s = 10) {
  const RendezvousServer server({.job_id = "test"});
  std::exception_ptr first_error;
  std::mutex mutex;
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < world_size; ++rank)
    ranks.emplace_back([&, rank] {
      try {
        RendezvousStore store({{"127.0.0.1", server.port()}, "test"}, Deadline::in(timeout_s));
        const auto communicator = tcp_communicator(rank, world_size, store, timeout_s);
        body(*communicator, store);
        part(*communicator);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!first_error) first_error = std::current_exception();
      }
    });
  for (std::thread& rank : ranks) rank.join();
  if (first_error) std::rethrow_exception(first_error);
}

}  // namespace smoe::test
