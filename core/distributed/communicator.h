// Communicator: collective operations among the ranks of a job. Every rank calls the same
// operations in the same order on tensors of the same size. Reductions add element by element in
// rank order, so all ranks get the same bits, whichever operation computed them.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/base/instrument.h"
#include "core/range.h"
#include "core/tensor.h"

namespace smoe {

/// Another rank died or did not respond in time; the message names it. The communicator cannot be
/// used afterwards.
struct CommunicationError : SystemError {
  using SystemError::SystemError;
};

/// A collective operation in progress. The tensor must stay alive and must not be accessed until
/// wait() has returned.
class Collective {
 public:
  virtual ~Collective() = default;
  /// Makes work queued on the current stream afterwards see the result; on the CPU, returns when
  /// the operation has completed. Bounded by the operation's own timeout. Throws:
  /// CommunicationError.
  virtual void wait() = 0;
};
using CollectiveHandle = std::shared_ptr<Collective>;

/// When a collective operation ran. Times are nanoseconds of the steady clock.
struct CollectiveTimes {
  const char* name = "";      ///< "all_reduce"
  std::int64_t bytes = 0;     ///< of its tensors on this rank
  Place place{};              ///< of the thread that started it
  std::int64_t start_ns = 0;  ///< when that thread started it, in the same order on all ranks
  std::int64_t ready_ns = 0;  ///< when its input was complete, so that it could begin
  std::int64_t begin_ns = 0, end_ns = 0;
};

/// A tensor and the rank that has its values.
struct RootedTensor {
  Tensor values;
  int root;
};

class Communicator {
 public:
  /// The other ranks see this one as failed unless its last operation was a barrier.
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int world_size() const = 0;

  /// Replaces each element by its sum over the ranks. f32, f64, i64; bf16, accumulated in f32.
  virtual CollectiveHandle all_reduce(const Tensor& values) = 0;
  /// Replaces the elements in this rank's shard_range by their sums; the others become undefined.
  virtual CollectiveHandle reduce_scatter(const Tensor& values) = 0;
  /// Replaces each rank's shard_range by that rank's elements. Any dtype.
  virtual CollectiveHandle all_gather(const Tensor& values) = 0;
  /// Replaces the tensor by that of `root`. Any dtype.
  virtual CollectiveHandle broadcast(const Tensor& values, int root) = 0;
  /// Broadcasts each tensor from its root, as one operation: many small ones cost little more than
  /// one. All must be on the same device.
  virtual CollectiveHandle broadcast_each(const std::vector<RootedTensor>& tensors) = 0;
  /// Completes when all ranks have called it.
  virtual CollectiveHandle barrier() = 0;

  /// Limits how long an operation, once started, may wait for other ranks.
  virtual void set_timeout(double seconds) = 0;
  /// Makes all pending and later operations fail with CommunicationError: on this rank immediately,
  /// on the others as soon as they need this rank. May be called from any thread.
  virtual void cancel() = 0;

  /// Notes from now on when each operation runs. On a GPU by timing events, which one event places
  /// on the steady clock: call it while the device is idle.
  virtual void start_timing() {}
  /// Ends that; waits for the operations noted since and returns them in the order of their calls.
  /// Throws: CommunicationError when one failed.
  virtual std::vector<CollectiveTimes> stop_timing() { return {}; }

  /// Why no operation can succeed any more; empty as long as none failed and no rank was lost.
  /// Does not wait. May be called from any thread.
  virtual std::string failure() const { return ""; }
  /// The transport and its settings, for logs.
  virtual std::string description() const { return ""; }
};

/// The communicator of a job with one rank; all operations are no-ops.
Communicator& single_communicator();

}  // namespace smoe
