// The checkpoints of one run: a folder of folders named by step, step-00000120. A checkpoint gets
// such a name once it is complete and durable; unfinished folders are named .tmp-something.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "train/checkpoint/checkpoint.h"

namespace smoe {

class CheckpointStore {
 public:
  struct Options {
    std::string folder = {};                ///< created by the first save
    std::int64_t keep = 2;                  ///< number of newest checkpoints to keep, at least 1
    std::int64_t keep_every = 0;            ///< also keep those at multiples of this step; 0: none
    std::int64_t keep_newest_of_every = 0;  ///< also keep the newest of those; 0: none
  };
  /// Receives one human-readable line per event: saved, removed, damaged.
  using Log = std::function<void(const std::string& line)>;
  /// Throws UsageError to refuse to resume from a checkpoint.
  using Accept = std::function<void(const Checkpoint& checkpoint)>;

  /// Throws: UsageError unless keep >= 1 and the others >= 0.
  CheckpointStore(Options options, Log log);
  const Options& options() const { return options_; }

  /// Saves the state under its step and returns the checkpoint's folder. In order: removes
  /// unfinished folders of terminated processes; writes the checkpoint to a temporary folder, makes
  /// it durable, reads it back and compares digests; removes checkpoints of later steps, which
  /// remain when a run has resumed from an earlier one and which the next resume would choose;
  /// renames the folder and makes the name durable; logs "saved"; prunes old checkpoints according
  /// to the options. What cannot be removed is logged, and the next save retries. Only intact
  /// checkpoints are removed: another one of this step or a later step is kept under the name
  /// step-N.set-aside.
  /// With several `writers` all of them call this function, after writer 0 has called begin().
  /// Writers other than 0 return when their shards are written; the checkpoint is complete when
  /// writer 0 returns.
  /// Throws: SystemError, UsageError, and what `visit` throws; all checkpoints of earlier steps are
  /// then intact, and no temporary folder is left, except by several writers until the next save or
  /// resume.
  std::string save(const CheckpointHeader& header, const VisitState& visit,
                   const ShardWriters& writers = {});

  /// Makes the temporary folder of a checkpoint of `step` for several writers. Throws: SystemError.
  void begin(std::int64_t step) const;

  /// Loads the state of the checkpoint that `resume` selects and returns its step; no value for a
  /// new run. "auto": the intact checkpoint with the highest step; damaged ones are logged and
  /// skipped, and unfinished folders are removed. An error of the system is not damage: it ends the
  /// resume, so that an intact checkpoint is not passed over. "none": a new run. Otherwise: the
  /// checkpoint in the folder `resume`. `expected.step` is ignored. Throws: UsageError when "auto"
  /// finds only damaged checkpoints, when the one in the folder `resume` is damaged, and when the
  /// config or data digest of the selected one differs from `expected` or its contents do not match
  /// the state; SystemError. With `accept`, that decides instead of the two digests.
  std::optional<std::int64_t> resume(const std::string& resume, const CheckpointHeader& expected,
                                     const VisitState& visit, const Accept& accept = nullptr);

  /// The folder of the checkpoint with the highest step in its name, intact or not; empty when
  /// there are none.
  std::string newest_path() const;

  /// From the next save on, also keeps the checkpoint of `step` instead of the last one given. May
  /// be called during a save.
  void keep(std::int64_t step) { kept_step_ = step; }

  /// The intact checkpoint with the highest step among multiples of `every`; no value when there
  /// are none. Damaged ones are logged and skipped. Throws: UsageError when all are damaged;
  /// SystemError when a newer one cannot be read, or has the format of a later version of this
  /// program.
  std::optional<Checkpoint> newest_intact(std::int64_t every = 1) const;

  /// The highest step in the name of a checkpoint, intact or not; -1 when there are none.
  std::int64_t newest_step() const;

 private:
  struct Entry;
  std::vector<Entry> entries() const;
  std::string temporary_path(std::int64_t step) const;
  void prepare(const std::string& temporary) const;
  bool set_aside_unless_intact(const std::string& name) const;
  template <class Remove>
  void remove_or_log(Remove&& remove) const;
  void remove_unfinished() const;
  std::string removal_path(const std::string& name) const;
  void vacate(const std::string& temporary) const;
  std::string retire(const std::string& name) const;
  void remove_after(std::int64_t step) const;
  void publish(const std::string& temporary, const std::string& name) const;
  void prune() const;
  void report_processor(const Manifest& manifest, const CheckpointHeader& expected) const;

  Options options_;
  Log log_;
  std::atomic<std::int64_t> kept_step_{-1};  // -1: none
};

/// "step-00000120".
std::string checkpoint_name(std::int64_t step);

}  // namespace smoe
