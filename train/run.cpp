#include "train/run.h"

#include <fmt/format.h>

#include "core/base/clock.h"
#include "core/device.h"
#include "core/system/format.h"
#include "core/version.h"
#include "kernels/threads.h"
#include "train/profile/memory_page.h"
#include "train/replicas.h"

namespace smoe {

Run::Run(RunComponents components, Ranks& ranks)
    : components_(std::move(components)),
      config_(components_.config),
      trainer_(*components_.trainer),
      checkpoints_(*components_.checkpoints),
      ranks_(ranks),
      step_reporter_(config_, trainer_, ranks.world_size()) {}

int Run::train() {
  signals_.emplace(ranks_.is_first() ? "saving after this step" : nullptr);
  const int exit_code = train_or_explain();
  signals_.reset();
  ranks_.leave();
  return exit_code;
}

// A run that is out of memory leaves the timeline of its last step.
int Run::train_or_explain() {
  try {
    return train_all_steps();
  } catch (const OutOfMemory& error) {
    const std::string path =
        fmt::format("{}/out-of-memory{}.html", config_.run.folder(),
                    ranks_.are_several() ? fmt::format(".rank-{}", ranks_.rank()) : "");
    components_.say(write_out_of_memory_page(error, current_stream().device(), path));
    throw;
  }
}

int Run::train_all_steps() {
  const bool lacks_validation = this->lacks_validation();
  if (checkpoints_.is_saved() && is_last_step() && !lacks_validation) {
    components_.say(fmt::format("nothing to do: all {} steps are done", config_.train.steps));
    finish();
    return 0;
  }
  find_best();
  if (config_.profile.every > 0 && ranks_.is_first())
    profiler_.emplace(config_, trainer_, ranks_.communicator(),
                      RunPaths(config_.run.folder()).profiles_path());
  report_start();
  if (lacks_validation)
    if (const int signal = run_validation()) return stop(signal);
  while (trainer_.steps_done() < config_.train.steps) {
    train_step();
    checkpoints_.poll();
    if (ranks_.are_several() && is_due(config_.parallel.check_every)) compare_ranks();
    if (is_due(config_.train.eval_every))
      if (const int signal = run_validation()) return stop(signal);
    const StepRequests requests =
        ranks_.agree({.signal = signals_->received(), .saves = checkpoints_.is_due()});
    if (requests.signal != 0) return stop(requests.signal);
    is_save_due_ |= requests.saves || is_due(config_.checkpoint.every);
    // In a streak of steps that are not finite, saves would displace the checkpoints before it.
    if (is_save_due_ && trainer_.nonfinite_in_a_row() == 0) save();
  }
  if (!components_.validation.empty())
    if (const int signal = run_validation()) return stop(signal);
  save();
  checkpoints_.wait();
  finish();
  say_done();
  return 0;
}

void Run::say_done() const {
  if (!components_.reports) return;
  const RunHistory& history = components_.reports->history();
  const std::optional<ValidationReport>& best = history.best_validation();
  components_.say(fmt::format(
      "done in {}{}; report: {}", format_duration(history.trained_s()),
      best ? fmt::format(", best validation loss {:.4f} at step {}", best->loss, best->step) : "",
      RunPaths(config_.run.folder()).report_path()));
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
                     .time = utc_time(),
                     .device = to_string(current_stream().device()),
                     .threads = kernels::cpu::num_threads(),
                     .ranks = ranks_.world_size(),
                     .version = SMOE_VERSION,
                     .device_bytes = total_memory_bytes(current_stream().device())});
}

bool Run::is_due(std::int64_t every) const {
  return every > 0 && trainer_.steps_done() % every == 0;
}

void Run::train_step() {
  ranks_.begin_step(trainer_.steps_done() + 1);
  if (profiler_) profiler_->begin_step();
  StepReport step = trainer_.step();
  if (profiler_) say_profile(profiler_->end_step(1e3 * step.step_s));
  ranks_.record_step_time(step.step_s);
  step_reporter_.add_time(step.step_s);
  if (is_due(config_.log.every) || is_last_step() || step.is_skipped) {
    step_reporter_.complete(step);
    report(step);
  }
  if (step.is_skipped) handle_nonfinite();
  show_status("");
}

// A step returns once its loss is known, before the device has updated the weights. Without this
// wait, work between two steps would be taken to include the update, and the steps not.
void Run::finish_step() {
  step_reporter_.add_finishing_time(seconds_of([] { current_stream().synchronize(); }));
}

void Run::compare_ranks() {
  finish_step();
  step_reporter_.add_comparison_time(seconds_of([this] {
    check_replicas(
        ranks_.communicator(), [this](StateVisitor& v) { trainer_.visit_replicated(v); },
        [this](StateVisitor& v) { trainer_.visit_replicated_parts(v); });
  }));
}

void Run::say_profile(const std::string& line) {
  if (!line.empty()) components_.say(line);
}

// Before work between two steps that a profile would count as theirs.
void Run::end_profile() {
  if (profiler_) say_profile(profiler_->end_window());
}

void Run::show_status(const std::string& activity) {
  if (components_.reports)
    components_.reports->show_status(
        fmt::format("step {}/{}{}", trainer_.steps_done(), config_.train.steps, activity));
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
  const auto step = checkpoints_.load_for_rollback();
  SMOE_CHECK(step, "step ", failed, ": there is no checkpoint yet to roll back to");
  trainer_.skip_data(failed - *step);
  if (validated_step_ > *step) validated_step_ = -1;
  if (components_.reports) components_.reports->begin_after(trainer_.steps_done());
  find_best();
  components_.say(fmt::format("rolled back from step {} to step {}; the data in between is skipped",
                              failed, *step));
}

// Whether a validation belongs to the current step that the metrics do not have: the one before the
// first step, or one that a signal or the death of an earlier process prevented.
bool Run::lacks_validation() {
  const bool is_expected =
      is_last_step() ? !components_.validation.empty() : is_due(config_.train.eval_every);
  if (!is_expected) return false;
  const RunReports* const reports = components_.reports.get();
  const bool is_reported = reports && reports->history().last_validation() &&
                           reports->history().last_validation()->step == trainer_.steps_done();
  return ranks_.broadcast(is_reported ? "reported" : "") != "reported";
}

// Returns the signal that ended the validation between two batches, without a report; otherwise 0.
int Run::run_validation() {
  if (validated_step_ == trainer_.steps_done()) return 0;
  end_profile();
  finish_step();
  ranks_.expect_long_wait();
  const auto check_signals = [this](std::int64_t done, std::int64_t total) {
    show_status(fmt::format("  validation {}%", 100 * done / std::max<std::int64_t>(total, 1)));
    const int signal = ranks_.agree({.signal = signals_->received()}).signal;
    if (signal != 0) throw Stopped{signal};
  };
  try {
    const ValidationReport validation =
        validate(config_, trainer_, components_.validation, check_signals);
    validated_step_ = validation.step;
    report(validation);
    keep_if_best(validation);
    return 0;
  } catch (const Stopped& stopped) {
    return stopped.signal;
  }
}

// Of the validations that rank 0 finds in the metrics.
void Run::find_best() {
  if (!config_.checkpoint.keep_best) return;
  const ValidationReport* best = nullptr;
  if (components_.reports && components_.reports->history().best_validation())
    best = &*components_.reports->history().best_validation();
  const std::string loss = ranks_.broadcast(
      fmt::format("{}", best ? best->loss : std::numeric_limits<double>::infinity()));
  best_loss_ = std::stod(loss);
  checkpoints_.keep(best ? best->step : -1);
}

void Run::keep_if_best(const ValidationReport& validation) {
  if (!config_.checkpoint.keep_best || !(validation.loss < best_loss_)) return;
  best_loss_ = validation.loss;
  if (validation.step == 0) return;  // before training there is nothing to keep
  checkpoints_.keep(validation.step);
  save();
}

void Run::report(const Report& report) {
  if (!components_.reports) return;
  check_folder();
  components_.reports->add(report);
}

// Without it the run would continue to write to files that have no name any more, and a save would
// create the folder again, or write to that of another run.
void Run::check_folder() {
  if (!components_.folder || components_.folder->is_in_place()) return;
  components_.reports->abandon();
  throw SystemError(concat(config_.run.folder(),
                           ": the folder was removed, moved or replaced while ",
                           "this run wrote it, after step ", trainer_.steps_done(),
                           "; the run ends without another checkpoint"));
}

void Run::save() {
  is_save_due_ = false;
  if (checkpoints_.is_saved()) return;
  end_profile();
  check_folder();
  if (components_.reports) components_.reports->sync();
  finish_step();
  step_reporter_.add_save_time(seconds_of([this] { checkpoints_.save(); }));
}

void Run::finish() {
  if (components_.reports) components_.reports->finish();
}

}  // namespace smoe
