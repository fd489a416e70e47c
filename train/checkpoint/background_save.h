// BackgroundSave: a thread that writes checkpoints while training continues. The state is first
// copied to the host, so that the next step may change it. One save at a time.
#pragma once
#include <atomic>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "train/checkpoint/checkpoint_store.h"
#include "train/checkpoint/state_copy.h"

namespace smoe {

class BackgroundSave {
 public:
  /// `log` receives the log of CheckpointStore, in the thread that calls start, poll and wait.
  BackgroundSave(CheckpointStore::Options options, CheckpointStore::Log log);
  /// Waits for a save in progress, but not for other writers; its error, if any, is logged if the
  /// log can be written.
  ~BackgroundSave();
  BackgroundSave(const BackgroundSave&) = delete;
  BackgroundSave& operator=(const BackgroundSave&) = delete;

  /// Waits for the previous save, then copies the state and begins to save it, as
  /// CheckpointStore::save, as writer `index` of `count`; writer 0 looks for the files of the
  /// others until they are there. Throws: what `visit` throws; as wait, for the previous save.
  void start(const CheckpointHeader& header, const VisitState& visit, int index = 0, int count = 1);
  /// Logs what was done since the last call, without waiting; to be called after each step.
  /// Throws: the error that ended the save, once.
  void poll();
  /// Returns when no save is in progress. Throws: as poll.
  void wait();
  /// Whether a save was started whose end poll or wait has not seen yet.
  bool is_saving() const { return thread_.joinable(); }

  /// As CheckpointStore::keep.
  void keep(std::int64_t step) { store_.keep(step); }

 private:
  void run(const CheckpointHeader& header, int index, int count) noexcept;
  void await_files(const std::function<bool()>& are_complete) const;
  bool flush_log();
  void log_or_ignore(const std::string& line) noexcept;

  CheckpointStore::Log log_;
  StateCopy copy_;
  std::thread thread_;
  std::mutex mutex_;  // guards lines_, error_, is_done_
  std::vector<std::string> lines_;
  std::exception_ptr error_;
  bool is_done_ = false;
  std::atomic<bool> is_ending_{false};
  CheckpointStore store_;  // used by the thread only
};

}  // namespace smoe
