// Several ranks in one process, a thread and a GPU each, that meet at a store of their own.
#pragma once
#include <functional>
#include <memory>

#include "core/device.h"
#include "core/distributed/nccl_communicator.h"
#include "tests/support/ranks.h"

namespace smoe::test {

/// Runs body(communicator, control, store) on `world_size` ranks, as on_ranks; each has its GPU's
/// stream as the current one.
inline void on_gpu_ranks(
    int world_size,
    const std::function<void(Communicator&, Communicator& control, RendezvousStore&)>& body,
    double timeout_s = 20) {
  on_ranks(
      world_size,
      [&](Communicator& control, RendezvousStore& store) {
        const Stream stream(select_device("cuda", control.rank(), control.world_size()));
        const StreamGuard guard(stream);
        const auto gpus = nccl_communicator(store, control, {.timeout_s = timeout_s});
        body(*gpus, control, store);
      },
      timeout_s);
}

}  // namespace smoe::test
