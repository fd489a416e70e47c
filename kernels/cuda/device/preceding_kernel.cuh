// Kernels that start while the stream's preceding one ends (programmatic dependent launch). On GPUs
// before Hopper they are launched after it, and these functions do nothing.
#pragma once

namespace smoe::kernels::cuda {

/// Waits until the stream's preceding kernel is complete and its writes are visible.
__device__ inline void wait_for_preceding_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// The same, then lets the stream's next kernel start on SMs that this one leaves, once all blocks
/// have called it or have exited. Because it waits first, whatever runs beside a kernel is its
/// neighbor in the stream: when a kernel starts, all but the preceding one are complete. That holds
/// only if no kernel ends before the preceding one.
__device__ inline void follow_preceding_kernel() {
  wait_for_preceding_kernel();
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace smoe::kernels::cuda
