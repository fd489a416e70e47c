// Communicator: what the ranks of a job do together with tensors. Every rank calls the same
// operations in the same order on tensors of the same size. Sums add up in the order of ranks,
// element by element, so that all ranks get the same bits, however the sum was asked for.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/tensor.h"

namespace smoe {

/// Another rank died, or did not answer in time; the message names it. The communicator is of no
/// more use.
struct CommunicationError : SystemError {
  using SystemError::SystemError;
};

/// An operation under way. The tensor must live, and nobody may touch it, until wait() has
/// returned.
class Work {
 public:
  virtual ~Work() = default;
  /// Returns when work queued on the current stream from here on sees the result; on the CPU, when
  /// the operation is done. Bounded by the operation's own timeout.
  /// Throws: CommunicationError.
  virtual void wait() = 0;
};
using WorkHandle = std::shared_ptr<Work>;

/// Elements [begin, end) of a tensor of `numel` that are `rank`'s part of it: equal parts of whole
/// cache lines, but for the last that have any.
struct Part {
  std::int64_t begin, end;
  std::int64_t numel() const { return end - begin; }
};
Part part_of(std::int64_t numel, int rank, int world_size);

class Communicator {
 public:
  /// To the other ranks this one is lost, unless a barrier was the last that it did.
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int world_size() const = 0;

  /// Each element becomes its sum over the ranks. f32, f64, i64; bf16, which is summed in f32.
  virtual WorkHandle all_reduce(const Tensor& values) = 0;
  /// Elements of this rank's part_of the tensor become their sums; the others are left undefined.
  virtual WorkHandle reduce_scatter(const Tensor& values) = 0;
  /// Each part becomes what the rank has there whose part it is. Any dtype.
  virtual WorkHandle all_gather(const Tensor& values) = 0;
  /// The tensor becomes what `root` has. Any dtype.
  virtual WorkHandle broadcast(const Tensor& values, int root) = 0;
  /// Is done when all ranks have called it.
  virtual WorkHandle barrier() = 0;

  /// How long an operation, once its turn has come, may wait for other ranks.
  virtual void set_timeout(double seconds) = 0;
  /// Ends all that is under way or comes later with a CommunicationError, on this rank at once and
  /// on the others as soon as they need this one. From any thread.
  virtual void cancel() = 0;
};

/// That of a job of one rank, which has nothing to do.
Communicator& single_communicator();

}  // namespace smoe
