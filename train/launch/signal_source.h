// The signals that the launcher acts on, as something to poll.
#pragma once
#include <vector>

#include "core/system/descriptor.h"
#include "train/launch/poll_loop.h"

namespace smoe {

/// From the constructor on, SIGCHLD, SIGINT, SIGTERM, SIGHUP and SIGUSR1 wait here until they are
/// taken, and a write to a closed pipe is an error instead of SIGPIPE. What this process was
/// started to ignore, as by nohup, stays ignored. Before threads are started, which would receive
/// signals.
class SignalSource {
 public:
  explicit SignalSource(PollLoop& loop);
  ~SignalSource();
  SignalSource(const SignalSource&) = delete;
  SignalSource& operator=(const SignalSource&) = delete;

  /// The signals since the last call.
  std::vector<int> take();

 private:
  PollLoop& loop_;
  Descriptor descriptor_;
  std::vector<int> received_;
};

}  // namespace smoe
