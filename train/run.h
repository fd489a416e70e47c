// Run: one training run in its folder: trains to the last step, validates, saves, reports and stops
// when asked to. With several ranks each has a Run, and they go through it together; the first one
// alone writes the folder and tells what it does.
#pragma once
#include <optional>

#include "train/checkpoint/background_save.h"
#include "train/config/run_paths.h"
#include "train/ranks.h"
#include "train/report/run_folder.h"
#include "train/report/run_reports.h"
#include "train/signals.h"
#include "train/trainer.h"

namespace smoe {

class Run {
 public:
  /// Opens data and run folder, builds the model and puts back the checkpoint that
  /// `checkpoint.resume` asks for. Joins the other ranks, which must outlive the run. Prints what
  /// it does. Throws: UsageError, SystemError.
  explicit Run(const Config& config, Ranks& ranks = Ranks::single());

  /// Trains until all steps are done or a signal asks to stop, which it does after saving. Returns
  /// the process's exit code: 0, or 128 + signal.
  /// Throws: UsageError when train.on_nonfinite ends the run; SystemError.
  int train();

 private:
  void say(const std::string& line) {
    if (reports_) reports_->say(line);
  }
  void report(const Report& report) {
    if (reports_) reports_->add(report);
  }
  Communicator& join();
  int train_to_the_end();
  void finish();
  void describe();
  void report_start();
  void check_same_config() const;
  void resume();
  std::optional<std::int64_t> load(const std::string& checkpoint);
  void initialize();
  void train_step();
  double utilisation(double tokens_per_s) const;
  void handle_nonfinite();
  void roll_back();
  void validate();
  void save();
  ShardWriters writers();
  void start_save(const VisitState& visit);
  void wait_for_save();
  CheckpointHeader header() const;
  bool is_due(std::int64_t every) const;

  Ranks& ranks_;
  TrainingData training_;
  Config config_;
  std::vector<ValidationSet> validation_;
  RunPaths paths_;
  std::optional<RunFolder> folder_;  // of the first rank, like what follows
  std::optional<RunReports> reports_;
  Trainer trainer_;
  CheckpointStore checkpoints_;
  std::optional<BackgroundSave> background_;  // with checkpoint.async
  std::int64_t validated_step_ = -1, saved_step_ = -1;
  std::int64_t rollbacks_ = 0;
  double trained_s_ = 0, since_report_s_ = 0;
  std::int64_t steps_since_report_ = 0;
};

}  // namespace smoe
