// The CUDA runtime calls that core needs, in plain types, so that other files compile without CUDA:
// cuda/gpu.cpp implements them, none/gpu.cpp stands in for builds without CUDA. Streams and events
// are CUDA handles. Functions throw SystemError when a CUDA call fails.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

namespace smoe::gpu {

/// Empty when `device` can be used; otherwise what is missing and how to fix it.
std::string unavailable_reason(int device);

/// GPUs that this process sees; 0 where CUDA cannot start.
int num_visible();

/// The driver's name of the device: "NVIDIA H200".
std::string name(int device);
/// Where it is: "0000:1b:00.0".
std::string pci_address(int device);
/// Identifies a GPU among those of all hosts, and where it is:
/// "GPU-5e0f... at 0000:1b:00.0".
std::string identity(int device);
/// The newest CUDA version that the driver supports, "13.0".
std::string driver_version();

/// Makes `device` current for the calling thread.
void set_device(int device);

/// Held by threads other than the one that launches kernels while they call CUDA. Who holds it,
/// with the device idle, can detach a tool that replaces CUDA's functions (CUPTI): to do so during
/// a call crashes.
std::mutex& background_calls();

/// A non-blocking stream; destroyed with the last reference to it.
std::shared_ptr<void> create_stream(int device);
void wait_for_stream(void* stream);

std::shared_ptr<void> create_event(int device);
void record_event(void* event, void* stream);
void wait_for_event(void* event);
/// Whether the stream has reached the event; does not wait.
bool has_reached(void* event);
/// Makes work queued on `stream` afterwards wait for the event; does not block the caller.
void wait_for_event_on(void* stream, void* event);
double milliseconds_between(void* begin, void* end);

/// Stream-ordered memory from the device's pool. Null when the device is out of memory.
void* allocate(std::int64_t bytes, int device, void* stream);
/// Frees memory once the work queued on `stream` has finished. Ignores errors of a failed device,
/// which the call that failed has reported.
void release(void* data, void* stream) noexcept;
/// Memory outside of the pool, which other processes can map; for few large blocks that live long.
/// Null when the device is out of memory.
void* allocate_sharable(std::int64_t bytes, int device);
/// Frees it; waits for the device. Ignores errors as release() does.
void release_sharable(void* data) noexcept;
/// Returns the pool's unused memory to the system.
void trim_pool(int device);
struct MemoryInfo {
  std::int64_t free_bytes;  ///< the pool's unused memory included
  std::int64_t total_bytes;
  std::int64_t pool_peak_bytes;  ///< the most that the pool has held of the device
};
MemoryInfo memory_info(int device);

/// Queues a fill of memory with one byte value.
void memset_async(void* data, int byte, std::int64_t bytes, void* stream);
/// Queues a copy within one device.
void copy_on_device(void* target, const void* source, std::int64_t bytes, void* stream);
/// Copies through pinned staging memory, since copies of pageable memory block the caller. The
/// first returns when `source` may change, and waits only while earlier copies occupy the staging
/// memory; the second returns when `target` is written.
void copy_from_host(void* target, const void* source, std::int64_t bytes, int device, void* stream);
void copy_to_host(void* target, const void* source, std::int64_t bytes, int device, void* stream);

}  // namespace smoe::gpu
