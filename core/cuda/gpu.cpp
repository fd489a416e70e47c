#include "core/gpu.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>

#include "core/base/cuda.cuh"
#include "core/base/instrument.h"
#include "core/host_wait.h"

namespace smoe::gpu {
namespace {

cudaStream_t stream_of(void* stream) {
  return static_cast<cudaStream_t>(stream);
}
cudaEvent_t event_of(void* event) {
  return static_cast<cudaEvent_t>(event);
}

// Waits by asking where a HostWaitScope must be able to end the wait, else in CUDA.
template <class Query, class Synchronize>
void wait_for(Query&& query, Synchronize&& synchronize) {
  const WaitScope scope;
  if (!has_host_wait_check()) {
    CUDA_CHECK(synchronize());
    return;
  }
  wait_on_host([&] {
    const cudaError_t code = query();
    if (code == cudaErrorNotReady) {
      cudaGetLastError();  // else the next check of a launch takes it for its own error
      return false;
    }
    CUDA_CHECK(code);
    return true;
  });
}

void wait_for(cudaEvent_t event) {
  wait_for([=] { return cudaEventQuery(event); }, [=] { return cudaEventSynchronize(event); });
}

// A ring of pinned buffers that transfers pass through: while one is being copied by the device,
// the host fills or drains the next.
class PinnedRing {
 public:
  void from_host(std::byte* target, const std::byte* source, std::int64_t bytes, void* stream) {
    const std::lock_guard lock(mutex_);
    for (std::int64_t done = 0; done < bytes; done += kBufferBytes) {
      const std::int64_t size = std::min(kBufferBytes, bytes - done);
      Buffer& buffer = next_buffer();
      std::memcpy(buffer.memory, source + done, size);
      send(buffer, target + done, buffer.memory, size, stream);
    }
  }

  void to_host(std::byte* target, const std::byte* source, std::int64_t bytes, void* stream) {
    const std::lock_guard lock(mutex_);
    struct InFlight {
      Buffer* buffer;
      std::int64_t begin, size;
    };
    std::deque<InFlight> queue;
    for (std::int64_t sent = 0, done = 0; done < bytes;) {
      for (; sent < bytes && queue.size() < kNumBuffers; sent += kBufferBytes) {
        const std::int64_t size = std::min(kBufferBytes, bytes - sent);
        Buffer& buffer = next_buffer();
        send(buffer, buffer.memory, source + sent, size, stream);
        queue.push_back({&buffer, sent, size});
      }
      const InFlight first = queue.front();
      queue.pop_front();
      wait_for(first.buffer->is_free);
      std::memcpy(target + first.begin, first.buffer->memory, first.size);
      done += first.size;
    }
  }

 private:
  static constexpr std::int64_t kBufferBytes = std::int64_t{4} << 20;
  static constexpr std::size_t kNumBuffers = 4;

  struct Buffer {
    std::byte* memory = nullptr;
    cudaEvent_t is_free = nullptr;
  };

  Buffer& next_buffer() {
    Buffer& buffer = buffers_[next_++ % kNumBuffers];
    if (!buffer.memory) {
      CUDA_CHECK(cudaEventCreateWithFlags(&buffer.is_free, cudaEventDisableTiming));
      CUDA_CHECK(cudaHostAlloc(reinterpret_cast<void**>(&buffer.memory), kBufferBytes,
                               cudaHostAllocDefault));
    }
    wait_for(buffer.is_free);
    return buffer;
  }

  void send(Buffer& buffer, void* target, const void* source, std::int64_t bytes, void* stream) {
    CUDA_CHECK(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDefault, stream_of(stream)));
    CUDA_CHECK(cudaEventRecord(buffer.is_free, stream_of(stream)));
  }

  std::mutex mutex_;
  std::array<Buffer, kNumBuffers> buffers_;
  std::size_t next_ = 0;
};

// Per-device state. Intentionally leaked: tensors with static lifetime may be freed after static
// destructors have run.
struct DeviceState {
  cudaMemPool_t pool = nullptr;
  PinnedRing pinned;
};

DeviceState& state_of(int device) {
  static std::mutex& mutex = *new std::mutex;
  static auto& states = *new std::map<int, DeviceState>;
  const std::lock_guard lock(mutex);
  DeviceState& state = states[device];
  if (!state.pool) {
    CUDA_CHECK(cudaDeviceGetDefaultMemPool(&state.pool, device));
    // Freed memory stays in the pool: the next step allocates the same sizes.
    std::uint64_t keep_all = ~std::uint64_t{0};
    CUDA_CHECK(cudaMemPoolSetAttribute(state.pool, cudaMemPoolAttrReleaseThreshold, &keep_all));
  }
  return state;
}

}  // namespace

std::string unavailable_reason(int device) {
  int num_devices = 0;
  const cudaError_t code = cudaGetDeviceCount(&num_devices);
  cudaGetLastError();
  if (code == cudaErrorInsufficientDriver)
    return "there is no NVIDIA driver, or it is older than the CUDA this build of smoe was made "
           "with; see nvidia-smi";
  if (code == cudaErrorNoDevice) return "the NVIDIA driver finds no GPU; see nvidia-smi";
  if (code != cudaSuccess)
    return concat("CUDA cannot start: ", cudaGetErrorName(code), ": ", cudaGetErrorString(code));
  if (device >= num_devices)
    return concat("there is no GPU ", device, "; this process sees ", num_devices);
  int major = 0, minor = 0;
  CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  if (major < 8)
    return concat("GPU ", device, " has compute capability ", major, ".", minor,
                  "; smoe's kernels need 8.0 (Ampere) or newer");
  return "";
}

int num_visible() {
  int num_devices = 0;
  if (cudaGetDeviceCount(&num_devices) == cudaSuccess) return num_devices;
  cudaGetLastError();
  return 0;
}

std::string name(int device) {
  cudaDeviceProp properties;
  CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  return properties.name;
}

std::string pci_address(int device) {
  char address[32] = {};
  CUDA_CHECK(cudaDeviceGetPCIBusId(address, sizeof address, device));
  std::string text = address;  // as in /sys, where letters are small
  for (char& letter : text)
    if (letter >= 'A' && letter <= 'F') letter = static_cast<char>(letter - 'A' + 'a');
  return text;
}

std::string identity(int device) {
  cudaDeviceProp properties;
  CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  std::string text = "GPU-";
  for (const char byte : properties.uuid.bytes)
    for (const int digit : {byte >> 4 & 15, byte & 15}) text += "0123456789abcdef"[digit];
  return concat(text, " at ", pci_address(device));
}

std::string driver_version() {
  int version = 0;
  CUDA_CHECK(cudaDriverGetVersion(&version));
  return concat(version / 1000, ".", version % 1000 / 10);
}

void set_device(int device) {
  CUDA_CHECK(cudaSetDevice(device));
}

std::mutex& background_calls() {
  static std::mutex mutex;
  return mutex;
}

std::shared_ptr<void> create_stream(int device) {
  set_device(device);
  cudaStream_t stream;
  CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return {stream, [](void* handle) { cudaStreamDestroy(stream_of(handle)); }};
}

void wait_for_stream(void* stream) {
  wait_for([=] { return cudaStreamQuery(stream_of(stream)); },
           [=] { return cudaStreamSynchronize(stream_of(stream)); });
}

std::shared_ptr<void> create_event(int device) {
  set_device(device);
  cudaEvent_t event;
  CUDA_CHECK(cudaEventCreate(&event));
  return {event, [](void* handle) { cudaEventDestroy(event_of(handle)); }};
}

void record_event(void* event, void* stream) {
  CUDA_CHECK(cudaEventRecord(event_of(event), stream_of(stream)));
}

void wait_for_event(void* event) {
  wait_for(event_of(event));
}

void wait_for_event_on(void* stream, void* event) {
  CUDA_CHECK(cudaStreamWaitEvent(stream_of(stream), event_of(event)));
}

bool has_reached(void* event) {
  const cudaError_t code = cudaEventQuery(event_of(event));
  if (code == cudaErrorNotReady) {
    cudaGetLastError();  // else the next check of a launch takes it for its own error
    return false;
  }
  CUDA_CHECK(code);
  return true;
}

double milliseconds_between(void* begin, void* end) {
  float milliseconds = 0;
  CUDA_CHECK(cudaEventElapsedTime(&milliseconds, event_of(begin), event_of(end)));
  return milliseconds;
}

void* allocate(std::int64_t bytes, int device, void* stream) {
  const DeviceState& state = state_of(device);
  void* data = nullptr;
  cudaError_t code = cudaMallocFromPoolAsync(&data, bytes, state.pool, stream_of(stream));
  if (code == cudaErrorMemoryAllocation) {
    // The pool's unused memory may be too fragmented; returned to the system it may suffice.
    cudaGetLastError();
    wait_for_stream(stream);
    trim_pool(device);
    code = cudaMallocFromPoolAsync(&data, bytes, state.pool, stream_of(stream));
  }
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  CUDA_CHECK(code);
  return data;
}

void release(void* data, void* stream) noexcept {
  if (cudaFreeAsync(data, stream_of(stream)) != cudaSuccess) cudaGetLastError();
}

void* allocate_sharable(std::int64_t bytes, int device) {
  set_device(device);
  void* data = nullptr;
  cudaError_t code = cudaMalloc(&data, bytes);
  if (code == cudaErrorMemoryAllocation) {  // the pool may hold unused memory
    cudaGetLastError();
    trim_pool(device);
    code = cudaMalloc(&data, bytes);
  }
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  CUDA_CHECK(code);
  return data;
}

void release_sharable(void* data) noexcept {
  if (cudaFree(data) != cudaSuccess) cudaGetLastError();
}

void trim_pool(int device) {
  CUDA_CHECK(cudaMemPoolTrimTo(state_of(device).pool, 0));
}

MemoryInfo memory_info(int device) {
  set_device(device);
  std::size_t free_bytes = 0, total_bytes = 0;
  CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
  // The pool's unused memory counts as free.
  std::uint64_t kept = 0, used = 0, most_kept = 0;
  const DeviceState& state = state_of(device);
  CUDA_CHECK(cudaMemPoolGetAttribute(state.pool, cudaMemPoolAttrReservedMemCurrent, &kept));
  CUDA_CHECK(cudaMemPoolGetAttribute(state.pool, cudaMemPoolAttrUsedMemCurrent, &used));
  CUDA_CHECK(cudaMemPoolGetAttribute(state.pool, cudaMemPoolAttrReservedMemHigh, &most_kept));
  return {static_cast<std::int64_t>(free_bytes + kept - used),
          static_cast<std::int64_t>(total_bytes), static_cast<std::int64_t>(most_kept)};
}

void memset_async(void* data, int byte, std::int64_t bytes, void* stream) {
  CUDA_CHECK(cudaMemsetAsync(data, byte, bytes, stream_of(stream)));
}

void copy_on_device(void* target, const void* source, std::int64_t bytes, void* stream) {
  CUDA_CHECK(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToDevice, stream_of(stream)));
}

void copy_from_host(void* target, const void* source, std::int64_t bytes, int device,
                    void* stream) {
  state_of(device).pinned.from_host(static_cast<std::byte*>(target),
                                    static_cast<const std::byte*>(source), bytes, stream);
}

void copy_to_host(void* target, const void* source, std::int64_t bytes, int device, void* stream) {
  state_of(device).pinned.to_host(static_cast<std::byte*>(target),
                                  static_cast<const std::byte*>(source), bytes, stream);
}

}  // namespace smoe::gpu
