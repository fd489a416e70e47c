// Devices and the current stream. Kernels are launched on the thread's current stream; StreamGuard
// sets it for a scope.
#pragma once
#include <string>

#include "core/base/launch.h"

namespace smoe {

/// A queue of work on one device. On the CPU there is one, and it is always idle between calls.
class Stream {
 public:
  Stream() = default;
  explicit Stream(Device device) : device_(device) {}
  Device device() const { return device_; }
  Launch launch() const { return {device_, nullptr}; }
  /// Waits until all work queued on this stream has finished.
  void synchronize() const {}

 private:
  Device device_;
};

/// The calling thread's current stream; the CPU's unless a StreamGuard says otherwise.
const Stream& current_stream();

/// Launch arguments for the current stream.
Launch launch();

/// Makes `stream` current for this thread until the guard goes out of scope.
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
/// Throws: UsageError for another name, or for "cuda" where there is no CUDA backend.
Device select_device(const std::string& name);

/// "cpu" or "cuda:0".
std::string to_string(Device device);

}  // namespace smoe
