// How a kernel runs: the device, the CUDA stream it is queued on, and the policy by which it
// chooses an implementation.
#pragma once
#include <cstdint>

namespace smoe {

enum class DeviceType : std::uint8_t {
  cpu,
  cuda,
  /// None: memory is counted and not allocated, kernels do nothing, values cannot be read. Kernels
  /// need the workspace that they need on this CPU, ...
  dry_cpu,
  /// ... or, in a build with CUDA, that on an H100 or H200, of which there need not be one.
  dry_cuda,
};

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;

  bool is_dry() const { return type == DeviceType::dry_cpu || type == DeviceType::dry_cuda; }
  friend bool operator==(const Device&, const Device&) = default;
};

/// Forms of the expert GEMMs that may run on CUDA.
enum class ExpertKernels : std::uint8_t {
  automatic,  ///< the fastest one for the GPU and the sizes
  portable,   ///< those that run on every GPU
};

/// Which implementations kernels may choose from, where there are several.
struct KernelPolicy {
  ExpertKernels experts = ExpertKernels::automatic;
  bool cudnn = true;          ///< attention by cuDNN where it supports the shape
  bool deterministic = true;  ///< of cuDNN's attention only deterministic kernels

  friend bool operator==(const KernelPolicy&, const KernelPolicy&) = default;
};

/// The first argument of every kernel. `stream` is a cudaStream_t on CUDA and null on the CPU,
/// where a kernel has finished when its call returns.
struct Launch {
  Device device;
  void* stream = nullptr;
  KernelPolicy policy = {};
};

}  // namespace smoe
