// CheckpointSaver: saves and loads a trainer's state on all ranks together: synchronously or, with
// checkpoint.async, in a background thread; written by rank 0 or, when the state is sharded, by all
// ranks.
#pragma once
#include <optional>
#include <string>

#include "train/checkpoint/background_save.h"
#include "train/config/config.h"
#include "train/config/run_paths.h"
#include "train/ranks.h"
#include "train/trainer.h"

namespace smoe {

class CheckpointSaver {
 public:
  /// For the checkpoints of the run that `config` describes. `ranks` and `trainer` must outlive the
  /// saver. `data` is the digest of the training data; `log` receives the log lines of rank 0.
  CheckpointSaver(const Config& config, Digest data, Ranks& ranks, Trainer& trainer,
                  const CheckpointStore::Log& log);

  /// Saves the state, unless that of this step is saved; in the background it only starts to. All
  /// ranks must call it. Throws: as CheckpointStore::save or BackgroundSave::start.
  void save();
  /// Logs what the background has done, without waiting. Throws: the error of a save in progress.
  void poll();
  /// Returns when no save is in progress. Throws: as poll.
  void wait();

  /// Loads the state of the checkpoint that `selection` names, as CheckpointStore::resume, and
  /// returns its step; no value for a new run. Rank 0 selects the newest one, so that all ranks
  /// load the same. All ranks must call it. Throws: as CheckpointStore::resume.
  std::optional<std::int64_t> load(const std::string& selection);

  /// Whether the state of the current step is saved, or about to be.
  bool is_saved() const { return saved_step_ == trainer_.steps_done(); }

 private:
  CheckpointHeader header() const;
  ShardWriters writers();
  void start();
  VisitState visit_state() {
    return [this](StateVisitor& visitor) { trainer_.visit_state(visitor); };
  }

  Ranks& ranks_;
  Trainer& trainer_;
  CheckpointHeader header_;  // of all checkpoints of the run, but for the step
  CheckpointStore store_;
  bool is_async_;
  std::optional<BackgroundSave> background_;  // on rank 0, if is_async_
  std::int64_t saved_step_ = -1;              // -1: none
};

}  // namespace smoe
