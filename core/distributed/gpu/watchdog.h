// Watchdog: a thread that follows the operations of a connection between GPUs, since no transport
// notices by itself that a rank on the same host is gone. It stops the connection when an operation
// takes too long, the transport or the device reports an error, or the control communicator fails.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "core/distributed/communicator.h"
#include "core/distributed/gpu/device_connection.h"
#include "core/distributed/gpu/device_operation.h"
#include "core/distributed/rendezvous_store.h"

namespace smoe {

class Watchdog {
 public:
  struct Options {
    double timeout_s;  ///< of each operation until set_timeout
    /// Called from the watchdog's thread when an operation failed and the process cannot be
    /// unblocked: the connection did not stop, or the watched thread did not return from a CUDA
    /// call. Empty: nothing is done.
    std::function<void(const std::string& why)> on_stuck;
  };

  /// Watches on behalf of the constructing thread. All references must outlive this.
  Watchdog(DeviceConnection& connection, Communicator& control, RendezvousStore store,
           Options options, int device);
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

  DeviceConnection& connection_;
  Communicator& control_;
  RendezvousStore store_;
  const Options options_;
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
