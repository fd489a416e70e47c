// Builds without Gloo support a single rank only.
#include "core/distributed/gloo_communicator.h"

#include "core/base/check.h"

namespace smoe {

std::unique_ptr<Communicator> gloo_communicator(int, int world_size, RendezvousStore&, double) {
  throw UsageError(concat("communicator: ", world_size,
                          " ranks on CPUs need Gloo, which this build does not include; install "
                          "libgloo-dev (Debian, Ubuntu) and rebuild"));
}

}  // namespace smoe
