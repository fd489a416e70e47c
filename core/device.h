// Devices, streams and events. Kernels are launched on the calling thread's current stream, which
// StreamGuard sets for a scope.
#pragma once
#include <memory>
#include <string>

#include "core/base/dtype.h"
#include "core/base/launch.h"

namespace smoe {

class Event;

/// A queue of work on one device. The CPU has one, which is idle between calls. Copies refer to the
/// same queue.
class Stream {
 public:
  /// The CPU's stream.
  Stream() = default;
  /// A new stream on `device`, as returned by select_device(). Throws: SystemError.
  explicit Stream(Device device);
  Device device() const { return device_; }
  /// With the default policy; smoe::launch() has the thread's.
  Launch launch() const { return {.device = device_, .stream = handle_.get()}; }
  /// Waits until all work queued on this stream has finished.
  void synchronize() const;
  /// Makes work queued on this stream afterwards wait for `event`; does not block the caller.
  void wait(const Event& event) const;

 private:
  Device device_;
  std::shared_ptr<void> handle_;
};

/// A point in a stream's work that other streams can wait for and that times are measured between.
class Event {
 public:
  /// The point after all work that is queued on `stream` now.
  explicit Event(const Stream& stream);
  /// Waits until the stream has reached this point.
  void synchronize() const;
  /// Device time in milliseconds from `earlier` to this event; waits for both. 0 on the CPU.
  double ms_since(const Event& earlier) const;

 private:
  friend class Stream;
  std::shared_ptr<void> handle_;
};

/// The calling thread's current stream; the CPU's unless a StreamGuard set another.
const Stream& current_stream();

/// Launch arguments for the current stream, with the thread's kernel policy.
Launch launch();

/// Makes `stream` and its device, and `policy` if given, current for this thread during the guard's
/// lifetime.
class StreamGuard {
 public:
  explicit StreamGuard(const Stream& stream);
  StreamGuard(const Stream& stream, const KernelPolicy& policy);
  ~StreamGuard();
  StreamGuard(const StreamGuard&) = delete;
  StreamGuard& operator=(const StreamGuard&) = delete;

 private:
  const Stream* previous_;
  KernelPolicy previous_policy_;
};

/// The device named "cpu", "cuda" or "auto" (CUDA if this build and machine support it, otherwise
/// the CPU).
/// Throws: UsageError for another name, and for "cuda" when no GPU can be used, with the reason.
Device select_device(const std::string& name);
/// The same for a rank, of which `local_world_size` run on this host: the GPU of its local rank, or
/// the only one that it sees, as where the launcher shows each rank its own. Throws: UsageError
/// also where there are too few.
Device select_device(const std::string& name, int local_rank, int local_world_size);
/// The index of the GPU for a rank among `num_visible`, at least one. Throws: UsageError.
int gpu_of_rank(int local_rank, int local_world_size, int num_visible);

/// Memory of a GPU, or of the machine for other devices.
std::int64_t total_memory_bytes(Device device);

/// "cpu", "cuda:0" or "dry run".
std::string to_string(Device device);

}  // namespace smoe
