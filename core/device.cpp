#include "core/device.h"

#include <unistd.h>

#include "core/base/check.h"
#include "core/gpu.h"

namespace smoe {
namespace {

const Stream kCpuStream;
thread_local const Stream* current = &kCpuStream;
thread_local KernelPolicy policy;

void enter(const Stream& stream) {
  if (stream.device().type == DeviceType::cuda) gpu::set_device(stream.device().index);
}

}  // namespace

Stream::Stream(Device device) : device_(device) {
  if (device.type == DeviceType::cuda) handle_ = gpu::create_stream(device.index);
}

void Stream::synchronize() const {
  if (handle_) gpu::wait_for_stream(handle_.get());
}

void Stream::wait(const Event& event) const {
  if (handle_ && event.handle_) gpu::wait_for_event_on(handle_.get(), event.handle_.get());
}

Event::Event(const Stream& stream) {
  if (stream.device().type != DeviceType::cuda) return;
  handle_ = gpu::create_event(stream.device().index);
  gpu::record_event(handle_.get(), stream.launch().stream);
}

void Event::synchronize() const {
  if (handle_) gpu::wait_for_event(handle_.get());
}

double Event::ms_since(const Event& earlier) const {
  if (!handle_ || !earlier.handle_) return 0;
  synchronize();
  return gpu::milliseconds_between(earlier.handle_.get(), handle_.get());
}

const Stream& current_stream() {
  return *current;
}

Launch launch() {
  Launch launch = current->launch();
  launch.policy = policy;
  return launch;
}

StreamGuard::StreamGuard(const Stream& stream) : StreamGuard(stream, policy) {}

StreamGuard::StreamGuard(const Stream& stream, const KernelPolicy& wanted)
    : previous_(current), previous_policy_(policy) {
  enter(stream);
  current = &stream;
  policy = wanted;
}
StreamGuard::~StreamGuard() {
  if (previous_->device() != current->device()) enter(*previous_);
  current = previous_;
  policy = previous_policy_;
}

Device select_device(const std::string& name) {
  return select_device(name, 0, 1);
}

Device select_device(const std::string& name, int local_rank, int local_world_size) {
  SMOE_CHECK(name == "auto" || name == "cpu" || name == "cuda",
             "device: must be auto, cpu or cuda; got ", name);
  if (name == "cpu") return {};
  std::string reason = gpu::unavailable_reason(0);
  SMOE_CHECK(name == "auto" || reason.empty(), "device: cuda was requested, but ", reason);
  if (!reason.empty()) return {};
  const int index = gpu_of_rank(local_rank, local_world_size, gpu::num_visible());
  reason = gpu::unavailable_reason(index);
  SMOE_CHECK(reason.empty(), "device: ", name, " means GPU ", index, ", but ", reason);
  return {DeviceType::cuda, index};
}

int gpu_of_rank(int local_rank, int local_world_size, int num_visible) {
  if (num_visible == 1) return 0;
  SMOE_CHECK(local_world_size <= num_visible, "device: ", local_world_size,
             " ranks on this host need a GPU each; got ", num_visible,
             " GPUs; start fewer ranks or use the CPU");
  return local_rank;
}

std::int64_t total_memory_bytes(Device device) {
  if (device.type == DeviceType::cuda) return gpu::memory_info(device.index).total_bytes;
  return std::int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
}

std::string to_string(Device device) {
  if (device.is_dry()) return "dry run";
  return device.type == DeviceType::cpu ? "cpu" : concat("cuda:", device.index);
}

}  // namespace smoe
