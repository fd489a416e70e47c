// Several ranks in one process, a thread and a GPU each, that meet at a store of their own.
#pragma once
#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>

#include "core/device.h"
#include "core/distributed/copy_communicator.h"
#include "core/distributed/nccl_communicator.h"
#include "core/distributed/transport.h"
#include "tests/support/ranks.h"

namespace smoe::test {

/// Runs body(communicator, control, store) on `world_size` ranks, as on_ranks; each has its GPU's
/// stream as the current one.
inline void on_gpu_ranks(
    Transport transport, int world_size,
    const std::function<void(Communicator&, Communicator& control, RendezvousStore&)>& body,
    double timeout_s = 20) {
  on_ranks(
      world_size,
      [&](Communicator& control, RendezvousStore& store) {
        const Stream stream(Device{DeviceType::cuda, control.rank()});
        const StreamGuard guard(stream);
        std::string why;
        const auto gpus = transport == Transport::nccl
                              ? nccl_communicator(store, control, {.timeout_s = timeout_s})
                              : copy_communicator(store, control, {.timeout_s = timeout_s}, why);
        if (!gpus) throw SystemError(why);
        body(*gpus, control, store);
      },
      timeout_s);
}

}  // namespace smoe::test
