// Watchdog: a thread that follows the operations of an NCCL connection, since NCCL itself does not
// notice that a rank on the same host is gone. It aborts the connection when an operation takes too
// long, NCCL or the device reports an error, or the control communicator fails.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "core/distributed/nccl/device_operation.h"
#include "core/distributed/nccl/nccl_connection.h"
#include "core/distributed/nccl_communicator.h"

namespace smoe {

class Watchdog {
 public:
  /// Watches on behalf of the constructing thread. All references must outlive this.
  Watchdog(NcclConnection& connection, Communicator& control, RendezvousStore store,
           const NcclOptions& options, int device);
  /// Stops watching.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// Follows an operation from now on. They end in the order in which they come.
  void follow(std::shared_ptr<DeviceOperation> operation);
  /// How long an operation may take from the moment when its input is ready and those before it are
  /// done.
  void set_timeout(double seconds) { timeout_s_ = seconds; }
  double timeout_s() const { return timeout_s_; }

  /// Marks the connection as failed; only the first reason counts. From any thread.
  void fail(const std::string& why);
  /// Empty while nothing failed. From any thread.
  std::string failure() const;
  /// To be called by the thread that is watched for: throws CommunicationError after a failure.
  void check(const char* op);

 private:
  void watch();
  void end_connection();
  std::string find_failure();
  std::string find_overdue();
  std::shared_ptr<DeviceOperation> front() const;
  std::string late_ranks();

  NcclConnection& connection_;
  Communicator& control_;
  RendezvousStore store_;
  const NcclOptions options_;
  const int device_;
  std::atomic<double> timeout_s_;
  std::optional<Deadline> deadline_;  // of the operation at the front, once it has started

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  std::deque<std::shared_ptr<DeviceOperation>> operations_;
  std::atomic<bool> has_failed_{false};
  bool is_closing_ = false, has_noticed_ = false;
  std::string failure_;
  std::thread thread_;
};

}  // namespace smoe
