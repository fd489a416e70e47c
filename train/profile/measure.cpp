#include "train/profile/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "core/gpu.h"
#include "core/memory.h"
#include "core/system/format.h"
#include "core/version.h"
#include "kernels/threads.h"
#include "train/plan/step_cost.h"
#include "train/profile/communication.h"
#include "train/profile/device_tracer.h"
#include "train/profile/recorder.h"
#include "train/profile/routing_cost.h"
#include "train/profile/timing.h"
#include "train/trainer.h"

namespace smoe {
namespace {

constexpr std::size_t kWindowEvents = 400'000;  // of the memory log, while a window lasts
constexpr int kStepsAfter = 3;

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

// Gives each launch the times of its kernels.
void add_device_times(std::vector<DeviceSample> device, Recording& recording) {
  for (LaunchSample& launch : recording.launches) launch.begin = -1;
  for (const DeviceSample& sample : device) {
    if (sample.launch < 0 || sample.launch >= static_cast<int>(recording.launches.size())) continue;
    LaunchSample& launch = recording.launches[sample.launch];
    if (launch.begin < 0) launch.begin = sample.begin;
    launch.end = std::max(launch.end, sample.end);
    launch.busy += sample.end - sample.begin;
  }
  for (std::size_t i = 0; i < recording.launches.size(); ++i) {
    LaunchSample& launch = recording.launches[i];
    if (launch.begin < 0)  // it launched nothing
      launch.begin = launch.end = i > 0 ? recording.launches[i - 1].end : launch.host_begin;
  }
  recording.device = std::move(device);
}

double timed_steps(std::int64_t count, const std::function<void()>& step) {
  std::vector<double> times;
  for (std::int64_t i = 0; i < count; ++i) times.push_back(time_ms(step));
  return median(times);
}

struct MemoryLogWindow {
  MemoryLogWindow() { set_memory_log_capacity(kWindowEvents); }
  ~MemoryLogWindow() { set_memory_log_capacity(kMemoryLogCapacity); }
};

std::vector<MemoryOption> memory_options(const Config& config, const Profile& profile) {
  double forward = 0, up = 0;
  for (const LayerGroup& layer : profile.layers) forward += layer.forward_ms;
  for (const OpGroup& op : profile.ops)
    if (op.kernel == "expert_up" && op.phase == Phase::forward) up += op.group.ms;
  std::vector<MemoryOption> options;
  const auto add = [&](const std::string& setting, const Config& changed, double extra_ms) {
    options.push_back({setting, plan_memory(changed).total_peak_bytes, extra_ms});
  };
  Config changed = config;
  if (config.train.recompute == Recompute::none) {
    changed.train.recompute = Recompute::experts;
    add("train.recompute=experts", changed, up);
  }
  if (config.train.recompute != Recompute::block) {
    changed.train.recompute = Recompute::block;
    const std::int64_t some = config.train.recompute_layers;
    const double share =
        some > 0 ? static_cast<double>(some) / static_cast<double>(config.model.num_layers) : 1;
    add("train.recompute=block", changed, share * forward);
  }
  changed = config;
  if (config.train.micro_batch % 2 == 0) {
    changed.train.micro_batch /= 2;
    add(fmt::format("train.micro_batch={}", changed.train.micro_batch), changed, 0);
  }
  return options;
}

void say(const ProfileOptions& options, const std::string& text) {
  if (options.on_progress) options.on_progress(text);
}

}  // namespace

ProfiledRun profile_steps(const ProfileOptions& options, const Roofline& roofline,
                          const std::function<void()>& step, Communicator& communicator) {
  SMOE_CHECK(options.steps >= 1, "profile: steps must be at least 1; got ", options.steps);
  SMOE_CHECK(options.warmup >= 1, "profile: warmup must be at least 1; got ", options.warmup);
  ProfiledRun run;
  Profile& profile = run.profile;
  profile.roofline = roofline;
  profile.num_steps = options.steps;
  profile.num_warmup = options.warmup;
  profile.num_ranks = communicator.world_size();
  profile.device = device_name();
  profile.version = SMOE_VERSION;
  profile.time = utc_time();

  say(options, fmt::format("{} warm-up steps", options.warmup));
  StepCost count;
  {
    const InstrumentScope scope(count);
    step();
  }
  if (options.warmup > 1) profile.before_ms = timed_steps(options.warmup - 1, step);
  const MemoryLogWindow memory_window;
  std::unique_ptr<DeviceTracer> tracer = make_tracer(options.mode, profile);
  say(options, fmt::format("{} recorded steps", options.steps));
  {
    const auto num_launches = static_cast<std::size_t>(count.num_launches() * options.steps);
    Recorder recorder(num_launches + num_launches / 8 + 64, tracer.get());
    communicator.start_timing();
    PowerMeter power(current_stream().device());
    {
      const InstrumentScope scope(recorder);
      for (std::int64_t i = 0; i < options.steps; ++i) {
        recorder.begin_step();
        step();
        recorder.end_step();
      }
    }
    run.recording = recorder.finish();
    profile.power = power.stop();
    add_communication(communicator.stop_timing(), run.recording);
  }
  if (tracer) add_device_times(tracer->finish(run.recording.begin_ns), run.recording);
  tracer.reset();
  profile.memory = memory_timeline(memory_log(current_stream().device()), run.recording.begin_ns,
                                   run.recording.end_ns);
  say(options, "steps without the profiler");
  profile.after_ms = timed_steps(kStepsAfter, step);
  return run;
}

ProfiledRun profile_training(const Config& given, const TrainingData& training,
                             const ProfileOptions& options, Communicator& communicator) {
  Config config = given;
  if (config.model.vocab_size == 0) config.model.vocab_size = training.vocab_size();
  // A short run is profiled as a longer one, whose schedule has as many steps.
  config.train.steps = std::max(config.train.steps, options.warmup + options.steps + kStepsAfter);
  say(options, "roofline of this device");
  const Roofline roofline = measure_roofline(config.train.precision);
  release_cached_memory();
  Trainer trainer(config, training, communicator);
  if (options.ranks == ProfiledRanks::first && communicator.rank() > 0) {
    for (std::int64_t i = 0; i < options.warmup + options.steps + kStepsAfter; ++i) trainer.step();
    return {};
  }
  ProfiledRun run = profile_steps(
      options, roofline, [&] { trainer.step(); }, communicator);
  Profile& profile = run.profile;
  profile.run = config.run.name;
  profile.tokens_per_step = config.train.global_batch * config.train.seq_len;
  StepCost planned;
  {
    const InstrumentScope scope(planned);
    profile.plan = plan_memory(config);
  }
  profile.planned = planned.total();
  if (is_gpu()) {
    const gpu::MemoryInfo info = gpu::memory_info(current_stream().device().index);
    profile.device_total_bytes = info.total_bytes;
    profile.device_used_bytes = info.total_bytes - info.free_bytes;
    profile.beside_tensors_bytes = profile.device_used_bytes - memory_use().now_bytes;
    profile.pool_peak_bytes = info.pool_peak_bytes;
  }
  analyze(run.recording, profile);
  if (options.ranks == ProfiledRanks::all) gather_ranks(communicator, profile);
  profile.memory_options = memory_options(config, profile);
  if (config.model.mlp.kind == "moe") {
    say(options, "experts at equal loads");
    profile.routing = measure_routing_cost(config, trainer, profile.layers);
  }
  advise(profile);
  return run;
}

}  // namespace smoe
