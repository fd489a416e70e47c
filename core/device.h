// Devices, streams and events. Kernels are launched on the thread's current stream; StreamGuard
// sets it for a scope.
#pragma once
#include <memory>
#include <string>

#include "core/base/dtype.h"
#include "core/base/launch.h"

namespace smoe {

class Event;

/// A queue of work on one device. On the CPU there is one, and it is always idle between calls.
/// Copies are the same queue.
class Stream {
 public:
  /// The CPU's.
  Stream() = default;
  /// A new queue on `device`, which select_device() chose. Throws: SystemError.
  explicit Stream(Device device);
  Device device() const { return device_; }
  Launch launch() const { return {device_, handle_.get()}; }
  /// Waits until all work queued on this stream has finished.
  void synchronize() const;
  /// Makes what is queued on this stream from here on wait for `event`; the caller does not.
  void wait(const Event& event) const;

 private:
  Device device_;
  std::shared_ptr<void> handle_;
};

/// A point in a stream's work, for another stream to wait for or to measure times between.
class Event {
 public:
  /// The point behind all that is queued on `stream` now.
  explicit Event(const Stream& stream);
  /// Waits until the stream has reached this point.
  void synchronize() const;
  /// Milliseconds on the device from `earlier` to here, waiting for both; 0 on the CPU.
  double ms_since(const Event& earlier) const;

 private:
  friend class Stream;
  std::shared_ptr<void> handle_;
};

/// The calling thread's current stream; the CPU's unless a StreamGuard says otherwise.
const Stream& current_stream();

/// Launch arguments for the current stream.
Launch launch();

/// Makes `stream` and its device current for this thread until the guard goes out of scope.
class StreamGuard {
 public:
  explicit StreamGuard(const Stream& stream);
  ~StreamGuard();
  StreamGuard(const StreamGuard&) = delete;
  StreamGuard& operator=(const StreamGuard&) = delete;

 private:
  const Stream* previous_;
};

/// The device for a config's `run.device`: "cpu", "cuda" or "auto" (CUDA if this build and machine
/// have it, the CPU otherwise).
/// Throws: UsageError for another name, or for "cuda" where no GPU can be used; says why.
Device select_device(const std::string& name);

/// "cpu", "cuda:0" or "dry run".
std::string to_string(Device device);

}  // namespace smoe
