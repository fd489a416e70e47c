#include "train/profile/profile_window.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/gpu.h"
#include "core/memory_log.h"
#include "core/system/format.h"
#include "core/version.h"
#include "kernels/threads.h"
#include "train/profile/communication.h"
#include "train/profile/device_times.h"

namespace smoe {
namespace {

constexpr std::size_t kMemoryEvents = 400'000;  // of the memory log, while a window lasts

bool is_gpu() {
  return current_stream().device().type == DeviceType::cuda;
}

std::string device_name() {
  const Device device = current_stream().device();
  if (device.type == DeviceType::cuda)
    return fmt::format("{} ({})", gpu::name(device.index), to_string(device));
  return fmt::format("{}, {} threads", to_string(device), kernels::cpu::num_threads());
}

// The tracer that `mode` asks for; null: events. Notes why not CUPTI.
std::unique_ptr<DeviceTracer> make_tracer(ProfileMode mode, Profile& profile) {
  profile.mode = is_gpu() ? "events" : "clock";
  if (mode == ProfileMode::events || (mode == ProfileMode::automatic && !is_gpu())) return nullptr;
  try {
    SMOE_CHECK(is_gpu(), "CUPTI: times kernels on a GPU; this run is on the CPU");
    auto tracer = start_device_tracer();
    profile.mode = "cupti";
    return tracer;
  } catch (const Error& error) {
    if (mode == ProfileMode::cupti) throw;
    profile.mode_note = error.what();
    return nullptr;
  }
}

}  // namespace

ProfileWindow::MemoryLogWindow::MemoryLogWindow() {
  set_memory_log_capacity(kMemoryEvents);
}
ProfileWindow::MemoryLogWindow::~MemoryLogWindow() {
  set_memory_log_capacity(kMemoryLogCapacity);
}

// The recorder has some more events and records than were asked for: steps differ a little.
ProfileWindow::ProfileWindow(ProfileMode mode, std::int64_t num_launches,
                             Communicator& communicator)
    : communicator_(communicator),
      tracer_(make_tracer(mode, profile_)),
      recorder_(static_cast<std::size_t>(num_launches + num_launches / 8 + 64), tracer_.get()),
      power_(current_stream().device()) {
  profile_.num_ranks = communicator.world_size();
  profile_.transport = communicator.description();
  profile_.device = device_name();
  profile_.version = SMOE_VERSION;
  profile_.time = utc_time();
  communicator.start_timing();
}

void ProfileWindow::begin_step() {
  scope_.emplace(recorder_);
  recorder_.begin_step();
}

void ProfileWindow::end_step() {
  recorder_.end_step();
  scope_.reset();
  ++num_steps_;
}

ProfiledRun ProfileWindow::finish() {
  ProfiledRun run{.profile = std::move(profile_), .recording = recorder_.finish()};
  run.profile.num_steps = num_steps_;
  run.profile.power = power_.stop();
  add_communication(communicator_.stop_timing(), run.recording);
  if (tracer_) add_device_times(tracer_->finish(run.recording.begin_ns), run.recording);
  tracer_.reset();
  run.profile.memory = memory_timeline(memory_log(current_stream().device()),
                                       run.recording.begin_ns, run.recording.end_ns);
  return run;
}

}  // namespace smoe
