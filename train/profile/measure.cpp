#include "train/profile/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "core/gpu.h"
#include "core/memory.h"
#include "train/plan/plan.h"
#include "train/plan/step_cost.h"
#include "train/profile/communication.h"
#include "train/profile/routing_cost.h"
#include "train/profile/timing.h"

namespace smoe {
namespace {

constexpr int kStepsAfter = 3;

double timed_steps(std::int64_t count, const std::function<void()>& step) {
  std::vector<double> times;
  for (std::int64_t i = 0; i < count; ++i) times.push_back(time_ms(step));
  return median(times);
}

std::vector<MemoryOption> memory_options(const Config& config, const Profile& profile) {
  double forward = 0, up = 0;
  for (const LayerGroup& layer : profile.layers) forward += layer.forward_ms;
  for (const OpGroup& op : profile.ops)
    if (op.kernel == "expert_up" && op.phase == Phase::forward) up += op.group.ms;
  std::vector<MemoryOption> options;
  const auto add = [&](const std::string& setting, const Config& changed, double extra_ms) {
    options.push_back(
        {setting, plan_memory(changed, profile.num_ranks).total_peak_bytes, extra_ms});
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

void add_device_memory(Profile& profile) {
  if (current_stream().device().type != DeviceType::cuda) return;
  const gpu::MemoryInfo info = gpu::memory_info(current_stream().device().index);
  profile.device_total_bytes = info.total_bytes;
  profile.device_used_bytes = info.total_bytes - info.free_bytes;
  profile.beside_tensors_bytes = profile.device_used_bytes - memory_use().now_bytes;
  profile.pool_peak_bytes = info.pool_peak_bytes;
}

void say(const ProfileOptions& options, const std::string& text) {
  if (options.on_progress) options.on_progress(text);
}

}  // namespace

ProfiledRun profile_steps(const ProfileOptions& options, const Roofline& roofline,
                          const std::function<void()>& step, Communicator& communicator) {
  SMOE_CHECK(options.steps >= 1, "profile: steps must be at least 1; got ", options.steps);
  SMOE_CHECK(options.warmup >= 1, "profile: warmup must be at least 1; got ", options.warmup);
  say(options, fmt::format("{} warm-up steps", options.warmup));
  StepCost count;
  {
    const InstrumentScope scope(count);
    step();
  }
  const double before_ms = options.warmup > 1 ? timed_steps(options.warmup - 1, step) : 0;
  say(options, fmt::format("{} recorded steps", options.steps));
  ProfiledRun run;
  {
    ProfileWindow window(options.mode, count.num_launches() * options.steps, communicator);
    for (std::int64_t i = 0; i < options.steps; ++i) {
      window.begin_step();
      step();
      window.end_step();
    }
    run = window.finish();
  }
  run.profile.roofline = roofline;
  run.profile.num_warmup = options.warmup;
  run.profile.before_ms = before_ms;
  say(options, "steps without the profiler");
  run.profile.after_ms = timed_steps(kStepsAfter, step);
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
  Communicator* const recorded = options.ranks == ProfiledRanks::all ? &communicator : nullptr;
  complete_profile(config, trainer, recorded, run);
  return run;
}

void complete_profile(const Config& config, Trainer& trainer, Communicator* recorded_ranks,
                      ProfiledRun& run) {
  Profile& profile = run.profile;
  profile.run = config.run.name;
  profile.tokens_per_step = config.train.global_batch * config.train.seq_len;
  StepCost planned;
  {
    const InstrumentScope scope(planned);
    profile.plan = plan_memory(config, profile.num_ranks);
  }
  profile.planned = planned.total();
  if (profile.num_ranks > 1)
    profile.planned_communication = plan_communication(config, profile.num_ranks);
  add_device_memory(profile);
  analyze(run.recording, profile);
  if (recorded_ranks) gather_ranks(*recorded_ranks, profile);
  profile.memory_options = memory_options(config, profile);
  if (config.model.mlp.kind == "moe")
    profile.routing = measure_routing_cost(config, trainer, profile.layers);
  advise(profile);
}

}  // namespace smoe
