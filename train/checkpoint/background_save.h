// BackgroundSave: checkpoints that a thread writes while training goes on. The state is copied to
// the host first, so the step after may change it. One save at a time.
#pragma once
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "train/checkpoint/checkpoint_store.h"
#include "train/checkpoint/state_copy.h"

namespace smoe {

class BackgroundSave {
 public:
  /// `log` receives what CheckpointStore logs, in the thread that calls start, poll and wait.
  BackgroundSave(CheckpointStore::Options options, CheckpointStore::Log log);
  /// Waits for a save under way; an error it meets is logged.
  ~BackgroundSave();
  BackgroundSave(const BackgroundSave&) = delete;
  BackgroundSave& operator=(const BackgroundSave&) = delete;

  /// Waits for the save before, then copies the state and begins to save it, as
  /// CheckpointStore::save. Throws: what visit throws; as wait, for the save before.
  void start(const CheckpointHeader& header, const VisitState& visit);
  /// Logs what was done since the last call; to be called after each step. Waits for nothing.
  /// Throws: the error that ended the save under way, once.
  void poll();
  /// Returns when no save is under way. Throws: as poll.
  void wait();

 private:
  void run(const CheckpointHeader& header) noexcept;
  bool flush_log();

  CheckpointStore::Log log_;
  StateCopy copy_;
  std::thread thread_;
  std::mutex mutex_;  // of what follows
  std::vector<std::string> lines_;
  std::exception_ptr error_;
  bool is_done_ = false;
  CheckpointStore store_;  // used by the thread alone
};

}  // namespace smoe
