// DeviceConnection: what a watchdog has to know of a transport between GPUs.
#pragma once
#include <string>

#include "core/system/deadline.h"

namespace smoe {

class DeviceConnection {
 public:
  virtual ~DeviceConnection() = default;
  /// An error that the transport found out by itself; empty while it knows of none. Does not wait.
  virtual std::string background_error() { return ""; }
  /// Ends the connection after all work on it is done; all ranks must call it. False: not within
  /// the deadline.
  virtual bool close(const Deadline& deadline) = 0;
  /// Ends the connection and whatever is under way on the device. False: not within the deadline;
  /// then the process should end by _exit. From any thread.
  virtual bool stop(const Deadline& deadline) = 0;
};

}  // namespace smoe
