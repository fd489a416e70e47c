// The communicator of ranks on GPUs of one host that copy into each other's memory: copy/
// implements it, none/copy/ replaces it in builds without CUDA.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "core/distributed/communicator.h"
#include "core/distributed/rendezvous_store.h"

namespace smoe {

struct CopyOptions {
  double timeout_s = 300;  ///< for connecting, and for each operation until set_timeout
  /// As NcclOptions::on_stuck.
  std::function<void(const std::string& why)> on_stuck = nullptr;
};

/// Bytes of GPU memory that the communicator allocates.
std::int64_t copy_communicator_bytes();

/// For ranks on GPUs of one host, one GPU per rank: that of the current stream. Copy engines write
/// into the memory of the other GPUs and streams wait for each other's flags there, so that sending
/// occupies no SM; only sums run kernels. Otherwise as nccl_communicator: a stream of its own, no
/// wait of the host but where a large allocation is used for the first time, host tensors and
/// barriers over `control`.
///
/// Sums are those of the ordered sum, bit for bit, for any number of ranks (bf16 in f32, rounded
/// once).
///
/// Null, on all ranks alike, where the GPUs cannot map each other's memory; `why` then says so.
/// All ranks must call it; `control` must outlive the object, which must be destroyed by the thread
/// that made it. Throws: UsageError; CommunicationError, SystemError.
std::unique_ptr<Communicator> copy_communicator(RendezvousStore& store, Communicator& control,
                                                const CopyOptions& options, std::string& why);

}  // namespace smoe
