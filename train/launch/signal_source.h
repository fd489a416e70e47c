// SignalSource: the signals that the launcher handles, through a pollable descriptor.
#pragma once
#include <vector>

#include "core/system/descriptor.h"
#include "train/launch/poll_loop.h"

namespace smoe {

/// The constructor blocks SIGCHLD and the signals of StopSignals and queues them for take(),
/// and makes a write to a closed pipe an error instead of SIGPIPE. Signals that this process
/// inherited as ignored, as under nohup, stay ignored. To be created before any thread, which would
/// receive signals.
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
