// GpuCommunicator: what transports between GPUs have in common. Operations run on a stream of their
// own: each starts after an event of the current stream, and wait() makes the current stream wait
// for an event after it. Tensors on the host, and barriers, travel over the control communicator.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/distributed/communicator.h"
#include "core/distributed/gpu/watchdog.h"
#include "core/host_wait.h"

namespace smoe {

/// Throws: UsageError, naming `op`, for a dtype that has no sums.
void check_sum_dtype(const char* op, DType dtype);

/// The NCCL_* variables of the environment as "NAME=value", sorted.
std::string nccl_variables();

class GpuCommunicator : public Communicator {
 public:
  int rank() const final { return rank_; }
  int world_size() const final { return world_size_; }

  CollectiveHandle all_reduce(const Tensor& values) final;
  CollectiveHandle reduce_scatter(const Tensor& values) final;
  CollectiveHandle all_gather(const Tensor& values) final;
  CollectiveHandle broadcast(const Tensor& values, int root) final;
  CollectiveHandle broadcast_each(const std::vector<RootedTensor>& tensors) final;
  CollectiveHandle barrier() final { return control_.barrier(); }

  void set_timeout(double seconds) final;
  void cancel() final;
  void start_timing() final;
  std::vector<CollectiveTimes> stop_timing() final;
  std::string failure() const final { return watchdog_->failure(); }
  std::string description() const final { return description_; }

 protected:
  /// On the current stream's GPU. `control` must outlive this.
  explicit GpuCommunicator(Communicator& control);
  ~GpuCommunicator() override;

  /// Begins to watch; `connection` must live until end(), which a subclass calls in its destructor.
  void start(DeviceConnection& connection, RendezvousStore store, Watchdog::Options options);
  /// Runs each operation in several sizes, checks a sum, and measures the bandwidth for
  /// description(), which begins with `name`. Calls end() when it throws.
  void warm_up(const std::string& name, const std::string& settings);
  void end();

  /// These queue an operation on stream() in the order of calls. Tensors are not empty, except some
  /// of a broadcast's.
  virtual void queue_all_reduce(const Tensor& values) = 0;
  virtual void queue_reduce_scatter(const Tensor& values) = 0;
  virtual void queue_all_gather(const Tensor& values) = 0;
  virtual void queue_broadcast(const std::vector<RootedTensor>& tensors) = 0;

  Communicator& control() { return control_; }
  cudaStream_t stream() const { return stream_; }
  int device() const { return device_; }
  double timeout_s() const { return watchdog_->timeout_s(); }
  /// Where `rank`'s shard of a tensor begins.
  char* shard_data(const Tensor& values, int rank) const;

 private:
  class Handle;
  /// An operation between start_timing and stop_timing, with timing events around it.
  struct TimedOperation {
    CollectiveTimes times;
    std::shared_ptr<void> ready, begin, end;
  };

  template <class F>
  CollectiveHandle run(const char* name, const Tensor& values, F&& queue);
  template <class F>
  CollectiveHandle run(const char* name, std::int64_t bytes, F&& queue);
  /// An event with timing, recorded on a CUDA stream.
  std::shared_ptr<void> timed_event(void* stream) const;
  void check_device(const char* name, const Tensor& values) const;
  double bandwidth_of(const Tensor& buffer);

  Communicator& control_;
  const int rank_, world_size_;
  int device_ = 0;
  cudaStream_t stream_ = nullptr;
  std::shared_ptr<EventPool> events_ = std::make_shared<EventPool>();
  DeviceConnection* connection_ = nullptr;
  std::optional<Watchdog> watchdog_;
  std::optional<HostWaitScope> wait_scope_;
  std::string description_;
  std::shared_ptr<void> base_;  // timing event at `base_ns_` of the steady clock; null: no timing
  std::int64_t base_ns_ = 0;
  std::vector<TimedOperation> timed_;
};

}  // namespace smoe
