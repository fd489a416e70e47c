#include "train/run.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "core/device.h"
#include "core/version.h"
#include "kernels/threads.h"
#include "train/replicas.h"
#include "train/signals.h"

namespace smoe {

Run::Run(RunComponents components, Ranks& ranks)
    : components_(std::move(components)),
      config_(components_.config),
      trainer_(*components_.trainer),
      checkpoints_(*components_.checkpoints),
      ranks_(ranks),
      timer_(config_, ranks.world_size()) {}

int Run::train() {
  const int exit_code = train_all_steps();
  ranks_.leave();
  return exit_code;
}

int Run::train_all_steps() {
  if (checkpoints_.is_saved() && trainer_.steps_done() >= config_.train.steps) {
    components_.say(fmt::format("nothing to do: all {} steps are done", config_.train.steps));
    return 0;
  }
  const StopSignals signals;
  report_start();
  if (trainer_.steps_done() == 0 && config_.train.eval_every > 0) validate();
  while (trainer_.steps_done() < config_.train.steps) {
    train_step();
    checkpoints_.poll();
    if (is_due(config_.parallel.check_every))
      check_replicas(ranks_.communicator(),
                     [this](StateVisitor& v) { trainer_.visit_replicated(v); });
    if (is_due(config_.train.eval_every)) validate();
    if (is_due(config_.checkpoint.every)) save();
    if (const int signal = ranks_.agree_on_signal(signals.received())) return stop(signal);
  }
  if (!components_.validation.empty()) validate();
  save();
  checkpoints_.wait();
  finish();
  return 0;
}

int Run::stop(int signal) {
  save();
  checkpoints_.wait();
  components_.say(fmt::format("stopped by {} after step {}; run the same command again to resume",
                              signal_name(signal), trainer_.steps_done()));
  finish();
  return exit_code_of_signal(signal);
}

void Run::report_start() {
  report(StartReport{.step = trainer_.steps_done(),
                     .steps = config_.train.steps,
                     .time = fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr))),
                     .device = to_string(current_stream().device()),
                     .threads = kernels::cpu::num_threads(),
                     .ranks = ranks_.world_size(),
                     .version = SMOE_VERSION});
}

bool Run::is_due(std::int64_t every) const {
  return every > 0 && trainer_.steps_done() % every == 0;
}

void Run::train_step() {
  ranks_.begin_step(trainer_.steps_done() + 1);
  StepReport step = trainer_.step();
  ranks_.record_step_time(step.step_s);
  timer_.add(step.step_s);
  if (is_due(config_.log.every) || is_last_step() || step.is_skipped) {
    timer_.report_to(step);
    trainer_.add_details(step);
    report(step);
  }
  if (step.is_skipped) handle_nonfinite();
}

void Run::handle_nonfinite() {
  const std::int64_t step = trainer_.steps_done();
  const std::string problem =
      fmt::format("step {}: loss or gradient norm is not finite; its update was not applied", step);
  if (config_.train.on_nonfinite == NonfinitePolicy::stop) {
    save();
    checkpoints_.wait();
    throw UsageError(problem + "; stopping, as set by train.on_nonfinite");
  }
  if (trainer_.nonfinite_in_a_row() >= config_.train.max_nonfinite)
    throw UsageError(fmt::format("{}; {} such steps in a row, the limit set by train.max_nonfinite",
                                 problem, trainer_.nonfinite_in_a_row()));
  if (config_.train.on_nonfinite == NonfinitePolicy::rollback) roll_back();
}

// The same steps on the same data would fail again, so the data between the checkpoint and the
// failed step is skipped.
void Run::roll_back() {
  const std::int64_t failed = trainer_.steps_done();
  const std::int64_t in_a_row = ++rollbacks_;
  SMOE_CHECK(in_a_row <= config_.train.max_nonfinite, "step ", failed, ": rolled back ",
             in_a_row - 1, " times, the limit set by train.max_nonfinite");
  checkpoints_.wait();
  const auto step = checkpoints_.load("auto");
  SMOE_CHECK(step, "step ", failed, ": there is no checkpoint yet to roll back to");
  trainer_.skip_data(failed - *step);
  if (validated_step_ > *step) validated_step_ = -1;
  if (components_.reports) components_.reports->begin_after(trainer_.steps_done());
  components_.say(fmt::format("rolled back from step {} to step {}; the data in between is skipped",
                              failed, *step));
}

void Run::validate() {
  if (validated_step_ == trainer_.steps_done()) return;
  ranks_.expect_long_wait();
  const ValidationReport validation = trainer_.validate(components_.validation);
  validated_step_ = validation.step;
  report(validation);
}

void Run::save() {
  if (checkpoints_.is_saved()) return;
  if (components_.reports) components_.reports->sync();
  checkpoints_.save();
}

void Run::finish() {
  if (components_.reports) components_.reports->finish();
}

}  // namespace smoe
