// Builds without CUDA or nccl.h: no ranks on GPUs.
#include "core/distributed/nccl_communicator.h"

#include "core/base/check.h"

namespace smoe {

std::string nccl_unavailable_reason() {
  return "this build of smoe has no NCCL backend; build it with CUDA where nccl.h is installed "
         "(libnccl-dev)";
}

std::string nccl_version() {
  throw SystemError(concat("nccl: ", nccl_unavailable_reason()));
}

std::unique_ptr<Communicator> nccl_communicator(RendezvousStore&, Communicator& control,
                                                const NcclOptions&) {
  throw UsageError(concat("communicator: ", control.world_size(),
                          " ranks on GPUs need NCCL: ", nccl_unavailable_reason()));
}

}  // namespace smoe
