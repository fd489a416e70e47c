// Run: one training run in its folder: trains to the last step, validates, saves, reports, and
// stops when a signal asks for it. Each rank of a job has a Run; only rank 0 writes to the folder
// and the console. open_run (open_run.h) makes a Run.
#pragma once
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "core/system/crash_trace.h"
#include "train/checkpoint_saver.h"
#include "train/ranks.h"
#include "train/report/run_folder.h"
#include "train/report/run_reports.h"
#include "train/run_profiler.h"
#include "train/signals.h"
#include "train/step_reporter.h"
#include "train/validate.h"

namespace smoe {

/// What a run consists of. Components refer to those above them.
struct RunComponents {
  Config config{};  ///< as given, with model.vocab_size filled in
  std::unique_ptr<const TrainingData> training{};
  std::vector<ValidationSet> validation{};
  std::unique_ptr<RunFolder> folder{};    ///< on rank 0 only
  std::unique_ptr<RunReports> reports{};  ///< on rank 0 only
  std::unique_ptr<CrashTrace> crash_trace{};
  std::unique_ptr<Trainer> trainer{};
  std::unique_ptr<CheckpointSaver> checkpoints{};

  /// A line to console and log, on rank 0.
  void say(const std::string& line) const {
    if (reports) reports->say(line);
  }
};

class Run {
 public:
  /// `ranks` must outlive the run.
  Run(RunComponents components, Ranks& ranks);

  /// Trains until all steps are done or until a signal asks to stop, and saves. Returns the exit
  /// code of the process: 0, or 128 + signal.
  /// Throws: UsageError when train.on_nonfinite ends the run; SystemError, also when the folder was
  /// removed or replaced.
  int train();

 private:
  void report(const Report& report);
  void check_folder();
  int train_or_explain();
  int train_all_steps();
  int stop(int signal);
  void say_done() const;
  void show_status(const std::string& activity);
  void say_profile(const std::string& line);
  void end_profile();
  void finish();
  void report_start();
  void train_step();
  void finish_step();
  void compare_ranks();
  void handle_nonfinite();
  void roll_back();
  bool lacks_validation();
  int run_validation();
  void find_best();
  void keep_if_best(const ValidationReport& validation);
  void save();
  bool is_due(std::int64_t every) const;
  bool is_last_step() const { return trainer_.steps_done() == config_.train.steps; }

  RunComponents components_;
  const Config& config_;
  Trainer& trainer_;
  CheckpointSaver& checkpoints_;
  Ranks& ranks_;
  StepReporter step_reporter_;
  std::optional<RunProfiler> profiler_{};  // on rank 0, if profiles are asked for
  std::optional<StopSignals> signals_;     // while training
  std::int64_t validated_step_ = -1;       // -1: none
  bool is_save_due_ = false;
  std::int64_t rollbacks_ = 0;
  double best_loss_ = std::numeric_limits<double>::infinity();  // of validations
};

}  // namespace smoe
