// Where a kernel runs: the device and, on CUDA, the stream it is queued on.
#pragma once
#include <cstdint>

namespace smoe {

enum class DeviceType : std::uint8_t {
  cpu,
  cuda,
  dry,  ///< none: memory is counted and not allocated, kernels do nothing, values cannot be read
};

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;

  friend bool operator==(const Device&, const Device&) = default;
};

/// What every kernel takes first. `stream` is a cudaStream_t on CUDA and null on the CPU, where a
/// kernel has finished when its call returns.
struct Launch {
  Device device;
  void* stream = nullptr;
};

}  // namespace smoe
