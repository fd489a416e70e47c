// What core asks of CUDA, in plain types, so that the rest of it compiles without: gpu_cuda.cpp
// does it, gpu_none.cpp stands for it in builds without CUDA, where there is no device. Streams and
// events are handles of CUDA's. Functions throw SystemError when CUDA refuses.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

namespace smoe::gpu {

/// Empty when `device` can be used; otherwise what is missing and what to do about it.
std::string unavailable_reason(int device);

/// As the driver calls it: "NVIDIA H200".
std::string name(int device);

/// Makes `device` the one the calling thread's CUDA calls are for.
void set_device(int device);

/// A stream that waits for no other one; destroyed with the last reference to it.
std::shared_ptr<void> create_stream(int device);
void wait_for_stream(void* stream);

std::shared_ptr<void> create_event(int device);
void record_event(void* event, void* stream);
void wait_for_event(void* event);
/// Makes what is queued on `stream` from here on wait for the event, and not the caller.
void wait_for_event_on(void* stream, void* event);
double milliseconds_between(void* begin, void* end);

/// Memory from the device's pool, to be used on `stream` or after it. Null when there is no room.
void* allocate(std::int64_t bytes, int device, void* stream);
/// Gives memory back once what is queued on `stream` has run. A device that failed is left alone:
/// the failure has been reported by the call that met it.
void release(void* data, void* stream) noexcept;
/// Gives memory that the pool keeps for reuse back to the system.
void release_kept(int device);
struct MemoryInfo {
  std::int64_t free_bytes;
  std::int64_t total_bytes;
};
MemoryInfo memory_info(int device);

/// Queues the filling of memory with one byte.
void memset_async(void* data, int byte, std::int64_t bytes, void* stream);
/// Queues a copy between two places of one device.
void copy_on_device(void* target, const void* source, std::int64_t bytes, void* stream);
/// Copies through pinned memory, since CUDA lets the caller wait on any other. The first returns
/// when `source` may change again, and waits only while earlier copies fill the pinned memory; the
/// second returns when `target` is written.
void copy_from_host(void* target, const void* source, std::int64_t bytes, int device, void* stream);
void copy_to_host(void* target, const void* source, std::int64_t bytes, int device, void* stream);

}  // namespace smoe::gpu
