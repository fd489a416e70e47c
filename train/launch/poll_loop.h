// PollLoop: the event loop of the launcher, the only place where it waits.
#pragma once
#include <functional>
#include <map>

#include "core/system/deadline.h"

namespace smoe {

/// Interval at which messages of other hosts, which are no descriptors to watch, are asked for.
constexpr double kPollSeconds = 0.2;

class PollLoop {
 public:
  using Callback = std::function<void()>;

  /// Makes wait() call `ready` whenever poll(2) reports one of `events`, a hangup or an error on
  /// `descriptor`. Replaces an earlier watch of the descriptor.
  void watch(int descriptor, short events, Callback ready);
  /// To be called before the descriptor is closed. Callbacks may call watch and forget.
  void forget(int descriptor);
  /// Waits until a descriptor is ready or the deadline passes, then calls the callbacks of all that
  /// are ready.
  void wait(const Deadline& deadline);

 private:
  struct Watched {
    short events;
    Callback ready;
  };
  std::map<int, Watched> watched_;
};

}  // namespace smoe
