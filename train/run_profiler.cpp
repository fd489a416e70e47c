#include "train/run_profiler.h"

#include <fmt/format.h>

#include <vector>

#include "core/memory.h"
#include "core/system/format.h"
#include "train/plan/memory_plan.h"
#include "train/plan/step_cost.h"
#include "train/profile/measure.h"
#include "train/profile/profile_files.h"
#include "train/profile/timing.h"

namespace smoe {
namespace {

constexpr std::size_t kPlainSteps = 9;

std::int64_t count_launches(const Config& config, int num_ranks) {
  StepCost planned;
  const InstrumentScope scope(planned);
  plan_memory(config, num_ranks);
  return planned.num_launches();
}

}  // namespace

RunProfiler::RunProfiler(const Config& config, Trainer& trainer, Communicator& communicator,
                         std::string folder)
    : config_(config),
      trainer_(trainer),
      communicator_(communicator),
      folder_(std::move(folder)),
      roofline_(measure_roofline(config.train.precision)),
      num_launches_(count_launches(config, communicator.world_size())) {
  release_cached_memory();
  reset_peak_memory();  // of the roofline
}

void RunProfiler::begin_step() {
  const std::int64_t done = trainer_.steps_done();
  if (!window_ && done > 0 && done % config_.profile.every == 0)
    window_.emplace(ProfileMode::events, num_launches_ * config_.profile.steps, communicator_);
  if (window_) window_->begin_step();
}

std::string RunProfiler::end_step(double step_ms) {
  if (!window_) {
    plain_ms_.push_back(step_ms);
    if (plain_ms_.size() > kPlainSteps) plain_ms_.pop_front();
    return "";
  }
  window_->end_step();
  return window_->num_steps() < config_.profile.steps ? "" : end_window();
}

std::string RunProfiler::end_window() {
  if (!window_) return "";
  ProfiledRun run = window_->finish();
  window_.reset();
  const std::int64_t last = trainer_.steps_done(), first = last - run.profile.num_steps + 1;
  run.profile.roofline = roofline_;
  run.profile.num_warmup = first - 1;
  if (!plain_ms_.empty()) run.profile.before_ms = median({plain_ms_.begin(), plain_ms_.end()});
  complete_profile(config_, trainer_, nullptr, run);
  const std::string folder = fmt::format("{}/step-{:08}", folder_, last);
  write_profile(folder, run);
  return fmt::format("profile of {} to step {}: {}/profile.html",
                     counted(run.profile.num_steps, "step"), last, folder);
}

}  // namespace smoe
