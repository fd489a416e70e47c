// CheckpointSaver: saves and loads a trainer's state on all ranks together: synchronously or, with
// checkpoint.async, in a background thread; written by rank 0 or, when the state is sharded, by all
// ranks.
#pragma once
#include <chrono>
#include <optional>
#include <string>

#include "train/checkpoint/background_save.h"
#include "train/config/config.h"
#include "train/config/run_paths.h"
#include "train/ranks.h"
#include "train/resumption.h"

namespace smoe {

class CheckpointSaver {
 public:
  /// For the checkpoints of the run that `config` describes. `training`, `ranks` and `trainer` must
  /// outlive the saver. `log` receives the log lines of rank 0.
  CheckpointSaver(const Config& config, const TrainingData& training, Ranks& ranks,
                  Trainer& trainer, const CheckpointStore::Log& log);

  /// Saves the state, unless that of this step is saved; in the background it only starts to. All
  /// ranks must call it. Throws: as CheckpointStore::save or BackgroundSave::start.
  void save();
  /// Logs what the background has done, without waiting. Throws: the error of a save in progress.
  void poll();
  /// Returns when no save is in progress. Throws: as poll.
  void wait();

  /// Loads the state of the checkpoint that `selection` names, as CheckpointStore::resume, and
  /// returns its step; no value for a new run. Rank 0 selects the newest one, so that all ranks
  /// load the same. The run continues with the changes of the configuration that `consent` allows.
  /// All ranks must call it. Throws: as CheckpointStore::resume and accepted_resumption.
  std::optional<std::int64_t> load(const std::string& selection,
                                   const std::vector<std::string>& consent);
  /// Throws what load would throw for the configuration, if the checkpoint that it would load is
  /// intact. On rank 0; reads no state.
  void check_changes(const std::string& selection, const std::vector<std::string>& consent) const;
  /// The configuration that the loaded checkpoint was trained with, and the changes since.
  const Config& trained() const { return trained_; }
  const std::vector<KeyChange>& changes() const { return changes_; }
  /// Whether a checkpoint of this run exists, intact or not.
  bool has_any() const { return store_.newest_step() >= 0; }

  /// Loads the checkpoint to which train.on_nonfinite rolls back and returns its step; no value
  /// when there is none: the newest at a multiple of checkpoint.every, so that the result of a run
  /// does not depend on when it was saved besides. All ranks must call it. Throws: as load.
  std::optional<std::int64_t> load_for_rollback();

  /// Also keeps the checkpoint of `step`, from the next save on, instead of the last one given.
  void keep(std::int64_t step);

  /// Whether checkpoint.every_minutes have passed since the last save ended, or since the start,
  /// and the current step is not saved. The clock of rank 0 counts.
  bool is_due() const;

  /// Whether the state of the current step is saved, or about to be.
  bool is_saved() const { return saved_step_ == trainer_.steps_done(); }

 private:
  using Clock = std::chrono::steady_clock;

  CheckpointHeader header();
  void check_base_of(const Checkpoint& checkpoint);
  void write();
  void start();
  std::optional<std::int64_t> load_newest(std::int64_t every);
  std::optional<std::int64_t> load_selected(const std::string& selected);
  VisitState visit_state() {
    return [this](StateVisitor& visitor) { trainer_.visit_state(visitor); };
  }

  Config config_;
  const TrainingData& training_;
  Ranks& ranks_;
  Trainer& trainer_;
  CheckpointHeader header_;  // of all checkpoints of the run, but for the step and data
  CheckpointStore store_;
  std::vector<std::string> consent_;
  Config trained_;
  std::vector<KeyChange> changes_;
  bool is_async_;
  std::optional<BackgroundSave> background_;  // on ranks that write, if is_async_
  std::int64_t saved_step_ = -1;              // -1: none
  std::int64_t every_;                        // steps; 0: none
  std::chrono::duration<double, std::ratio<60>> every_minutes_;
  Clock::time_point last_end_ = Clock::now();  // of a save, or the start
};

}  // namespace smoe
