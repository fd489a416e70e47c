// Builds without CUDA: no ranks on GPUs.
#include "core/distributed/copy_communicator.h"

#include "core/base/check.h"

namespace smoe {

std::int64_t copy_communicator_bytes() {
  return 0;
}

std::unique_ptr<Communicator> copy_communicator(RendezvousStore&, Communicator& control,
                                                const CopyOptions&, std::string&) {
  throw UsageError(concat("communicator: ", control.world_size(),
                          " ranks on GPUs need a build of smoe with CUDA"));
}

}  // namespace smoe
