// The checkpoints of one run: a folder of folders named by step, step-00000120. What bears such a
// name was complete and durable when it got it; everything unfinished is called .tmp-something.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "train/checkpoint/checkpoint.h"

namespace smoe {

class CheckpointStore {
 public:
  struct Options {
    std::string folder;           ///< made by the first save
    std::int64_t keep = 2;        ///< newest checkpoints that are kept, at least 2
    std::int64_t keep_every = 0;  ///< those at multiples of this step are kept for good; 0: none
  };
  /// Receives one line for people at a time: what was saved, removed, found damaged.
  using Log = std::function<void(const std::string& line)>;

  /// Throws: UsageError unless keep >= 2 and keep_every >= 0.
  CheckpointStore(Options options, Log log);
  const Options& options() const { return options_; }

  /// Saves the state under its step and returns the checkpoint's folder. The order is: what dead
  /// runs left half done is removed; the checkpoint is written to a temporary folder, made durable,
  /// read back and compared; checkpoints of later steps go, for they are of a future this run has
  /// turned away from, and would win the next resume; the folder gets its name and that is made
  /// durable; "saved" is logged; then old checkpoints go as the options say. One that cannot be
  /// removed is logged and tried again by the next save.
  /// Throws: SystemError, UsageError, and what visit throws; all checkpoints of earlier steps are
  /// intact and nothing temporary is left then.
  /// With several `writers` all save together; of those after the first it returns when their
  /// shards are written, and only the first's is complete then.
  std::string save(const CheckpointHeader& header, const VisitState& visit,
                   const ShardWriters& writers = {});

  /// Puts back the state that `checkpoint.resume` asks for and returns its step; no value for a new
  /// run. "auto": the checkpoint with the highest step that is intact; damaged ones are logged and
  /// passed over, and what a dead run left half done is removed. "none": a new run. Otherwise: the
  /// checkpoint in the folder `resume`. Throws: UsageError when "auto" finds only damaged
  /// checkpoints, when the one in the folder `resume` is damaged, and when the chosen one is of
  /// another config or other data than `expected` or does not match the state; SystemError.
  /// `expected.step` is not looked at.
  std::optional<std::int64_t> resume(const std::string& resume, const CheckpointHeader& expected,
                                     const VisitState& visit);

  /// The checkpoint with the highest step that is intact; no value when there is none at all.
  /// Damaged ones are logged and passed over. Throws: UsageError when all are damaged; SystemError.
  std::optional<Checkpoint> newest_intact() const;

  /// The highest step that a checkpoint is named by, intact or not; -1 when there is none.
  std::int64_t newest_step() const;

 private:
  struct Entry;
  std::vector<Entry> entries() const;
  template <class Remove>
  void remove_or_log(Remove&& remove) const;
  void remove_leftovers() const;
  std::string retire(const std::string& name) const;
  void remove_future(std::int64_t step) const;
  void give_name(const std::string& temporary, const std::string& name) const;
  void prune() const;

  Options options_;
  Log log_;
};

/// "step-00000120".
std::string checkpoint_name(std::int64_t step);

}  // namespace smoe
