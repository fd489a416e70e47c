#include "core/distributed/gpu/gpu_communicator.h"

#include <unistd.h>

#include <algorithm>
#include <exception>
#include <string_view>

#include "core/base/clock.h"
#include "core/base/cuda.cuh"
#include "core/gpu.h"
#include "core/system/fault.h"

namespace smoe {
namespace {

// How long a transport may take to close or stop.
constexpr double kEndSeconds = 5;

cudaStream_t compute_stream() {
  return static_cast<cudaStream_t>(launch().stream);
}

bool is_on_host(const Tensor& values) {
  return values.device().type != DeviceType::cuda;
}

}  // namespace

void check_sum_dtype(const char* op, DType dtype) {
  SMOE_CHECK(
      dtype == DType::f32 || dtype == DType::f64 || dtype == DType::bf16 || dtype == DType::i64, op,
      ": sums are for f32, f64, bf16 and i64; got ", name_of(dtype));
}

std::string nccl_variables() {
  std::vector<std::string> found;
  for (char** entry = environ; *entry; ++entry)
    if (std::string_view(*entry).starts_with("NCCL_")) found.emplace_back(*entry);
  std::sort(found.begin(), found.end());
  std::string text;
  for (const std::string& one : found) text += concat(text.empty() ? "" : " ", one);
  return text.empty() ? "no NCCL_* variables" : text;
}

class GpuCommunicator::Handle final : public Collective {
 public:
  Handle(GpuCommunicator& owner, std::shared_ptr<DeviceOperation> operation)
      : owner_(owner), operation_(std::move(operation)) {}
  void wait() override {
    if (!operation_) return;
    owner_.watchdog_->check(operation_->name);
    CUDA_CHECK(cudaStreamWaitEvent(compute_stream(), operation_->done));
  }

 private:
  GpuCommunicator& owner_;
  std::shared_ptr<DeviceOperation> operation_;  // null: there was nothing to do
};

GpuCommunicator::GpuCommunicator(Communicator& control)
    : control_(control), rank_(control.rank()), world_size_(control.world_size()) {
  const Launch here = launch();
  SMOE_CHECK(here.device.type == DeviceType::cuda,
             "communicator: ranks on GPUs need a GPU as the current device; got ",
             to_string(here.device));
  device_ = here.device.index;
  int least = 0, greatest = 0;
  CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  CUDA_CHECK(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest));
}

GpuCommunicator::~GpuCommunicator() {
  cudaStreamDestroy(stream_);
}

void GpuCommunicator::start(DeviceConnection& connection, RendezvousStore store,
                            Watchdog::Options options) {
  connection_ = &connection;
  watchdog_.emplace(connection, control_, std::move(store), std::move(options), device_);
  wait_scope_.emplace([this] { watchdog_->check("waiting for the device"); });
}

void GpuCommunicator::end() {
  if (!watchdog_) return;
  wait_scope_.reset();
  // While an exception ends this rank the others do not close.
  const bool has_failed = !watchdog_->failure().empty() || std::uncaught_exceptions() > 0;
  watchdog_.reset();
  const Deadline deadline = Deadline::in(kEndSeconds);
  if (has_failed || !connection_->close(deadline)) connection_->stop(deadline);
}

CollectiveHandle GpuCommunicator::all_reduce(const Tensor& values) {
  if (is_on_host(values)) return control_.all_reduce(values);
  check_sum_dtype("all_reduce", values.dtype());
  return run("all_reduce", values, [&] { queue_all_reduce(values); });
}

CollectiveHandle GpuCommunicator::reduce_scatter(const Tensor& values) {
  if (is_on_host(values)) return control_.reduce_scatter(values);
  check_sum_dtype("reduce_scatter", values.dtype());
  return run("reduce_scatter", values, [&] { queue_reduce_scatter(values); });
}

CollectiveHandle GpuCommunicator::all_gather(const Tensor& values) {
  if (is_on_host(values)) return control_.all_gather(values);
  return run("all_gather", values, [&] { queue_all_gather(values); });
}

CollectiveHandle GpuCommunicator::broadcast(const Tensor& values, int root) {
  return broadcast_each({{values, root}});
}

CollectiveHandle GpuCommunicator::broadcast_each(const std::vector<RootedTensor>& tensors) {
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
  return run("broadcast", bytes, [&] { queue_broadcast(tensors); });
}

void GpuCommunicator::set_timeout(double seconds) {
  watchdog_->set_timeout(seconds);
  control_.set_timeout(seconds);
}

void GpuCommunicator::cancel() {
  watchdog_->fail("cancelled");
  connection_->stop(Deadline::in(kEndSeconds));
  control_.cancel();
}

void GpuCommunicator::start_timing() {
  timed_.clear();
  base_ = timed_event(stream_);
  base_ns_ = now_ns();
  control_.start_timing();
}

std::vector<CollectiveTimes> GpuCommunicator::stop_timing() {
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

std::shared_ptr<void> GpuCommunicator::timed_event(void* stream) const {
  std::shared_ptr<void> event = gpu::create_event(device_);
  gpu::record_event(event.get(), stream);
  return event;
}

char* GpuCommunicator::shard_data(const Tensor& values, int rank) const {
  return static_cast<char*>(values.data()) +
         shard_range(values.numel(), rank, world_size_).begin * size_of(values.dtype());
}

void GpuCommunicator::check_device(const char* name, const Tensor& values) const {
  SMOE_CHECK(values.device() == (Device{DeviceType::cuda, device_}), name,
             ": tensors must be on GPU ", device_, "; got one on ", to_string(values.device()));
}

template <class F>
CollectiveHandle GpuCommunicator::run(const char* name, const Tensor& values, F&& queue) {
  check_device(name, values);
  return values.numel() == 0 ? std::make_shared<Handle>(*this, nullptr)
                             : run(name, values.bytes(), queue);
}

template <class F>
CollectiveHandle GpuCommunicator::run(const char* name, std::int64_t bytes, F&& queue) {
  watchdog_->check(name);
  if (fault_point("gpu_collective").error != 0)
    throw SystemError(concat(name, ": failed on purpose"));
  const auto operation = std::make_shared<DeviceOperation>(name, events_);
  CUDA_CHECK(cudaEventRecord(operation->ready, compute_stream()));
  CUDA_CHECK(cudaStreamWaitEvent(stream_, operation->ready));
  if (base_)
    timed_.push_back(
        {.times = {.name = name, .bytes = bytes, .place = current_place(), .start_ns = now_ns()},
         .ready = timed_event(compute_stream()),
         .begin = timed_event(stream_),
         .end = nullptr});
  queue();
  if (base_) timed_.back().end = timed_event(stream_);
  CUDA_CHECK(cudaEventRecord(operation->done, stream_));
  watchdog_->follow(operation);
  return std::make_shared<Handle>(*this, operation);
}

void GpuCommunicator::warm_up(const std::string& name, const std::string& settings) {
  try {
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
      throw SystemError(concat("communicator: ", name, " adds the numbers 1 to ", world_size_,
                               " up to ", got, "; the connection between the GPUs is faulty"));
    description_ = concat(name, ", all-reduce at ", static_cast<int>(bandwidth_of(buffer) + 0.5),
                          " GB/s; ", settings);
  } catch (...) {
    end();
    throw;
  }
}

/// GB/s that each rank sends in an all-reduce of `buffer`, the best of some.
double GpuCommunicator::bandwidth_of(const Tensor& buffer) {
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

}  // namespace smoe
