// Communicator over NCCL. Operations run on a stream of their own: each starts after an event of
// the current stream, and wait() makes the current stream wait for an event behind it.
#include "core/distributed/nccl_communicator.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <optional>
#include <vector>

#include "core/distributed/nccl/nccl_connection.h"
#include "core/distributed/nccl/watchdog.h"
#include "core/gpu.h"
#include "core/host_wait.h"
#include "core/system/fault.h"

namespace smoe {
namespace {

// How long NCCL may take to close or abort a connection.
constexpr double kEndSeconds = 5;

cudaStream_t compute_stream() {
  return static_cast<cudaStream_t>(launch().stream);
}

ncclDataType_t sum_type_of(const char* op, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return ncclFloat32;
    case DType::f64:
      return ncclFloat64;
    case DType::bf16:
      return ncclBfloat16;
    case DType::i64:
      return ncclInt64;
    default:
      throw UsageError(concat(op, ": sums are for f32, f64, bf16 and i64; got ", name_of(dtype)));
  }
}

/// The NCCL_* variables of the environment as "NAME=value", sorted.
std::string nccl_variables() {
  std::vector<std::string> found;
  for (char** entry = environ; *entry; ++entry)
    if (std::string_view(*entry).starts_with("NCCL_")) found.emplace_back(*entry);
  std::sort(found.begin(), found.end());
  std::string text;
  for (const std::string& one : found) text += concat(text.empty() ? "" : " ", one);
  return text.empty() ? "no NCCL_* variables" : text;
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(RendezvousStore& store, Communicator& control, const NcclOptions& options)
      : control_(control), rank_(control.rank()), world_size_(control.world_size()) {
    const Launch here = launch();
    SMOE_CHECK(here.device.type == DeviceType::cuda,
               "communicator: NCCL needs a GPU as the current device; got ",
               to_string(here.device));
    device_ = here.device.index;
    const Deadline deadline = Deadline::in(options.timeout_s);
    int least = 0, greatest = 0;
    CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    CUDA_CHECK(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest));
    connection_.emplace(shared_id(store, deadline), rank_, world_size_, options.max_ctas, deadline,
                        [&] { return control.failure(); });
    watchdog_.emplace(*connection_, control, store.connect_again(deadline), options, device_);
    wait_scope_.emplace([this] { watchdog_->check("waiting for the device"); });
    try {
      warm_up(options.max_ctas);
    } catch (...) {
      end();
      throw;
    }
  }

  ~NcclCommunicator() override { end(); }

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }

  CollectiveHandle all_reduce(const Tensor& values) override {
    if (is_on_host(values)) return control_.all_reduce(values);
    const ncclDataType_t type = sum_type_of("all_reduce", values.dtype());
    return run("all_reduce", values, [=, this](const NcclLibrary& nccl, ncclComm_t comm) {
      return nccl.all_reduce(values.data(), values.data(), values.numel(), type, ncclSum, comm,
                             stream_);
    });
  }

  CollectiveHandle reduce_scatter(const Tensor& values) override {
    if (is_on_host(values)) return control_.reduce_scatter(values);
    const ncclDataType_t type = sum_type_of("reduce_scatter", values.dtype());
    return run("reduce_scatter", values, [=, this](const NcclLibrary& nccl, ncclComm_t comm) {
      if (has_equal_shards(values))
        return nccl.reduce_scatter(values.data(), shard_data(values, rank_),
                                   values.numel() / world_size_, type, ncclSum, comm, stream_);
      return for_each_shard(nccl, values, [&](int rank, void* data, std::int64_t numel) {
        return nccl.reduce(data, data, numel, type, ncclSum, rank, comm, stream_);
      });
    });
  }

  CollectiveHandle all_gather(const Tensor& values) override {
    if (is_on_host(values)) return control_.all_gather(values);
    const std::int64_t size = size_of(values.dtype());
    return run("all_gather", values, [=, this](const NcclLibrary& nccl, ncclComm_t comm) {
      if (has_equal_shards(values))
        return nccl.all_gather(shard_data(values, rank_), values.data(),
                               values.bytes() / world_size_, ncclInt8, comm, stream_);
      return for_each_shard(nccl, values, [&](int rank, void* data, std::int64_t numel) {
        return nccl.broadcast(data, data, numel * size, ncclInt8, rank, comm, stream_);
      });
    });
  }

  CollectiveHandle broadcast(const Tensor& values, int root) override {
    return broadcast_each({{values, root}});
  }

  CollectiveHandle broadcast_each(const std::vector<RootedTensor>& tensors) override {
    if (!tensors.empty() && is_on_host(tensors.front().values))
      return control_.broadcast_each(tensors);
    std::int64_t bytes = 0;
    for (const auto& [values, root] : tensors) {
      SMOE_CHECK(root >= 0 && root < world_size_, "broadcast: root must be a rank; got ", root,
                 " of ", world_size_);
      check_device("broadcast", values);
      bytes += values.bytes();
    }
    if (bytes == 0) return std::make_shared<Handle>(*this, nullptr);
    return run("broadcast", bytes, [=, this](const NcclLibrary& nccl, ncclComm_t comm) {
      return group(nccl, tensors.size(), [&](std::size_t i) {
        const auto& [values, root] = tensors[i];
        if (values.numel() == 0) return ncclSuccess;
        return nccl.broadcast(values.data(), values.data(), values.bytes(), ncclInt8, root, comm,
                              stream_);
      });
    });
  }

  CollectiveHandle barrier() override { return control_.barrier(); }

  void set_timeout(double seconds) override {
    watchdog_->set_timeout(seconds);
    control_.set_timeout(seconds);
  }

  void cancel() override {
    watchdog_->fail("cancelled");
    connection_->stop(Deadline::in(kEndSeconds));
    control_.cancel();
  }

  void start_timing() override {
    timed_.clear();
    base_ = gpu::create_event(device_);
    gpu::record_event(base_.get(), stream_);
    base_ns_ = std::chrono::steady_clock::now().time_since_epoch().count();
    control_.start_timing();
  }

  std::vector<CollectiveTimes> stop_timing() override {
    std::vector<CollectiveTimes> times = control_.stop_timing();
    const auto time_of = [&](const std::shared_ptr<void>& event) {
      const double ms = gpu::milliseconds_between(base_.get(), event.get());
      return base_ns_ + static_cast<std::int64_t>(1e6 * ms);
    };
    for (TimedOperation& one : timed_) {
      gpu::wait_for_event(one.end.get());
      one.times.ready_ns = time_of(one.ready);
      one.times.begin_ns = time_of(one.begin);
      one.times.end_ns = time_of(one.end);
      times.push_back(one.times);
    }
    timed_.clear();
    base_.reset();
    return times;
  }

  std::string failure() const override { return watchdog_->failure(); }

  std::string description() const override { return description_; }

 private:
  class Handle final : public Collective {
   public:
    Handle(NcclCommunicator& owner, std::shared_ptr<DeviceOperation> operation)
        : owner_(owner), operation_(std::move(operation)) {}
    void wait() override {
      if (!operation_) return;
      owner_.watchdog_->check(operation_->name);
      CUDA_CHECK(cudaStreamWaitEvent(compute_stream(), operation_->done));
    }

   private:
    NcclCommunicator& owner_;
    std::shared_ptr<DeviceOperation> operation_;  // null: there was nothing to do
  };

  /// An operation between start_timing and stop_timing, with timing events around it.
  struct TimedOperation {
    CollectiveTimes times;
    std::shared_ptr<void> ready, begin, end;
  };

  std::shared_ptr<void> timed_event(cudaStream_t stream) const {
    std::shared_ptr<void> event = gpu::create_event(device_);
    gpu::record_event(event.get(), stream);
    return event;
  }

  static bool is_on_host(const Tensor& values) { return values.device().type != DeviceType::cuda; }
  bool has_equal_shards(const Tensor& values) const {
    return shard_range(values.numel(), world_size_ - 1, world_size_).numel() * world_size_ ==
           values.numel();
  }
  void* shard_data(const Tensor& values, int rank) const {
    return static_cast<char*>(values.data()) +
           shard_range(values.numel(), rank, world_size_).begin * size_of(values.dtype());
  }

  /// Calls f(0) ... f(count - 1), of which NCCL makes one operation.
  template <class F>
  static ncclResult_t group(const NcclLibrary& nccl, std::size_t count, F&& f) {
    ncclResult_t result = nccl.group_start();
    for (std::size_t i = 0; i < count && result == ncclSuccess; ++i) {
      result = f(i);
      if (result == ncclInProgress) result = ncclSuccess;
    }
    const ncclResult_t ended = nccl.group_end();
    return result == ncclSuccess ? ended : result;
  }

  /// A group of f(rank, first element, number of elements) for the shards that are not empty.
  template <class F>
  ncclResult_t for_each_shard(const NcclLibrary& nccl, const Tensor& values, F&& f) const {
    return group(nccl, world_size_, [&](std::size_t rank) {
      const std::int64_t numel = shard_range(values.numel(), rank, world_size_).numel();
      return numel == 0 ? ncclSuccess : f(rank, shard_data(values, rank), numel);
    });
  }

  ncclUniqueId shared_id(RendezvousStore& store, const Deadline& deadline) const {
    ncclUniqueId id;
    if (rank_ == 0) {
      const ncclResult_t result = nccl_library().get_unique_id(&id);
      if (result != ncclSuccess)
        throw SystemError(
            concat("nccl: ncclGetUniqueId: ", nccl_library().get_error_string(result),
                   "; on a host without a network interface set NCCL_SOCKET_IFNAME=lo"));
      store.set("nccl/id", {id.internal, sizeof id.internal}, deadline);
    } else {
      const std::string bytes = store.get("nccl/id", deadline);
      if (bytes.size() != sizeof id.internal)
        throw SystemError(concat("nccl: the id of rank 0 has ", bytes.size(), " bytes, not ",
                                 sizeof id.internal));
      std::memcpy(id.internal, bytes.data(), sizeof id.internal);
    }
    return id;
  }

  void check_device(const char* name, const Tensor& values) const {
    SMOE_CHECK(values.device() == (Device{DeviceType::cuda, device_}), name,
               ": tensors must be on GPU ", device_, "; got one on ", to_string(values.device()));
  }

  CollectiveHandle run(const char* name, const Tensor& values, const NcclConnection::Call& call) {
    check_device(name, values);
    return values.numel() == 0 ? std::make_shared<Handle>(*this, nullptr)
                               : run(name, values.bytes(), call);
  }

  CollectiveHandle run(const char* name, std::int64_t bytes, const NcclConnection::Call& call) {
    watchdog_->check(name);
    if (fault_point("nccl").error != 0) throw SystemError(concat(name, ": failed on purpose"));
    const auto operation = std::make_shared<DeviceOperation>(name, events_);
    CUDA_CHECK(cudaEventRecord(operation->ready, compute_stream()));
    CUDA_CHECK(cudaStreamWaitEvent(stream_, operation->ready));
    if (base_)
      timed_.push_back({.times = {.name = name, .bytes = bytes, .place = current_place()},
                        .ready = timed_event(compute_stream()),
                        .begin = timed_event(stream_),
                        .end = nullptr});
    connection_->enqueue(name, call, Deadline::in(watchdog_->timeout_s()));
    if (base_) timed_.back().end = timed_event(stream_);
    CUDA_CHECK(cudaEventRecord(operation->done, stream_));
    watchdog_->follow(operation);
    return std::make_shared<Handle>(*this, operation);
  }

  // Connects each algorithm and size class that NCCL connects lazily, and checks and times one.
  void warm_up(int max_ctas) {
    constexpr std::int64_t kBytes = std::int64_t{32} << 20;
    const Tensor buffer = Tensor::zeros({kBytes / 4}, DType::f32, Category::workspace);
    for (const std::int64_t numel : {std::int64_t{1}, std::int64_t{64} * world_size_ + 64,
                                     std::int64_t{1} << 18, buffer.numel()}) {
      const Tensor part = buffer.view(0, {numel});
      all_reduce(part)->wait();
      reduce_scatter(part)->wait();
      all_gather(part)->wait();
      broadcast(part, 0)->wait();
    }
    const Tensor count = Tensor::from<std::int64_t>({rank_ + 1}, {1}, Category::workspace);
    all_reduce(count)->wait();
    const std::int64_t expected = std::int64_t{world_size_} * (world_size_ + 1) / 2;
    const std::int64_t got = count.to_vector<std::int64_t>()[0];
    if (got != expected)
      throw SystemError(concat("communicator: NCCL adds the numbers 1 to ", world_size_, " up to ",
                               got, "; the connection between the GPUs is faulty"));
    description_ =
        concat("NCCL ", nccl_version(), ", at most ", max_ctas, " CTAs, all-reduce at ",
               static_cast<int>(bandwidth_of(buffer) + 0.5), " GB/s; ", nccl_variables());
  }

  /// GB/s that each rank sends in an all-reduce of `buffer`, the best of some.
  double bandwidth_of(const Tensor& buffer) {
    double least_ms = 0;
    for (int i = 0; i < 5; ++i) {
      const Event start(current_stream());
      all_reduce(buffer)->wait();
      const double ms = Event(current_stream()).ms_since(start);
      least_ms = i == 0 ? ms : std::min(least_ms, ms);
    }
    const double sent = 2.0 * (world_size_ - 1) / world_size_ * static_cast<double>(buffer.bytes());
    return sent / 1e6 / least_ms;
  }

  void end() {
    wait_scope_.reset();
    // While an exception ends this rank the others do not close.
    const bool has_failed = !watchdog_->failure().empty() || std::uncaught_exceptions() > 0;
    watchdog_.reset();
    const Deadline deadline = Deadline::in(kEndSeconds);
    if (has_failed || !connection_->close(deadline)) connection_->stop(deadline);
    cudaStreamDestroy(stream_);
  }

  Communicator& control_;
  const int rank_, world_size_;
  int device_ = 0;
  cudaStream_t stream_ = nullptr;
  std::shared_ptr<EventPool> events_ = std::make_shared<EventPool>();
  std::optional<NcclConnection> connection_;
  std::optional<Watchdog> watchdog_;
  std::optional<HostWaitScope> wait_scope_;
  std::string description_;
  std::shared_ptr<void> base_;  // timing event at `base_ns_` of the steady clock; null: no timing
  std::int64_t base_ns_ = 0;
  std::vector<TimedOperation> timed_;
};

}  // namespace

std::unique_ptr<Communicator> nccl_communicator(RendezvousStore& store, Communicator& control,
                                                const NcclOptions& options) {
  if (const std::string reason = nccl_unavailable_reason(); !reason.empty())
    throw UsageError(
        concat("communicator: ", control.world_size(), " ranks on GPUs need NCCL: ", reason));
  return std::make_unique<NcclCommunicator>(store, control, options);
}

}  // namespace smoe
