// DeviceOperation: the two events around one collective operation on the device.
#pragma once
#include <memory>
#include <mutex>
#include <vector>

#include "core/base/cuda.cuh"

namespace smoe {

/// Events without timing, which are cheaper, kept for reuse. For any thread.
class EventPool {
 public:
  EventPool() = default;
  ~EventPool() {
    for (cudaEvent_t event : free_) cudaEventDestroy(event);
  }
  EventPool(const EventPool&) = delete;
  EventPool& operator=(const EventPool&) = delete;

  cudaEvent_t take() {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        cudaEvent_t const event = free_.back();
        free_.pop_back();
        return event;
      }
    }
    cudaEvent_t event;
    CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
  }
  void put_back(cudaEvent_t event) {
    const std::lock_guard lock(mutex_);
    free_.push_back(event);
  }

 private:
  std::mutex mutex_;
  std::vector<cudaEvent_t> free_;
};

/// `ready` is recorded on the stream that computes the operation's input, `done` on the one that
/// the operation runs on. Both return to their pool with the last reference.
struct DeviceOperation {
  DeviceOperation(const char* operation_name, std::shared_ptr<EventPool> event_pool)
      : name(operation_name),
        pool(std::move(event_pool)),
        ready(pool->take()),
        done(pool->take()) {}
  ~DeviceOperation() {
    pool->put_back(ready);
    pool->put_back(done);
  }
  DeviceOperation(const DeviceOperation&) = delete;
  DeviceOperation& operator=(const DeviceOperation&) = delete;

  const char* name;
  std::shared_ptr<EventPool> pool;
  cudaEvent_t ready, done;
};

}  // namespace smoe
