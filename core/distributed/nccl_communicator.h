// The communicator of ranks on GPUs: nccl/ implements it, none/nccl/ replaces it in builds without
// CUDA or nccl.h.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "core/distributed/communicator.h"
#include "core/distributed/rendezvous_store.h"

namespace smoe {

/// Empty when NCCL can be used; otherwise what is missing and what to do about it.
std::string nccl_unavailable_reason();

/// Version of the loaded library, e.g. "2.28.9". Throws: SystemError when it cannot be loaded.
std::string nccl_version();

struct NcclOptions {
  double timeout_s = 300;  ///< for connecting, and for each operation until set_timeout
  int max_ctas = 16;       ///< thread blocks, each on an SM of its own, that one operation may use
  /// Called from another thread when an operation failed and the process cannot be unblocked: the
  /// communicator could not be aborted, or the rank's thread did not return from a CUDA call. It
  /// should end the process. Empty: nothing is done.
  std::function<void(const std::string& why)> on_stuck = nullptr;
};

/// For ranks on GPUs, one GPU per rank: that of the current stream. Tensors on the GPU travel over
/// NCCL, on a stream of their own; the host never waits: an operation starts when the work queued
/// on the current stream before it is done, and wait() orders the current stream after it. Tensors
/// on the host, and barriers, travel over `control`, which also tells when another rank is lost.
/// Connects and tries every operation once, under the timeout, before it returns.
///
/// Sums: with two ranks they are those of the ordered sum, bit for bit (bf16 in f32, rounded once).
/// With more, NCCL fixes the order by size and topology: equal on all ranks and in repeated runs on
/// the same machines, and within (n - 1) roundings of the dtype of the exact sum.
///
/// While the object lives, waits of the constructing thread for the device end with a
/// CommunicationError when a rank is lost or an operation exceeds its timeout. The object must be
/// destroyed by that thread. All ranks must call it; `control` must outlive the object.
/// Throws: UsageError when NCCL cannot be used; CommunicationError, SystemError.
std::unique_ptr<Communicator> nccl_communicator(RendezvousStore& store, Communicator& control,
                                                const NcclOptions& options);

}  // namespace smoe
