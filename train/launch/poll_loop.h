// PollLoop: the one place where the launcher waits, for whatever happens first.
#pragma once
#include <functional>
#include <map>

#include "core/system/deadline.h"

namespace smoe {

class PollLoop {
 public:
  using Callback = std::function<void()>;

  /// Calls `ready` from wait() whenever poll(2) reports one of `events` on `descriptor`, its end or
  /// an error. Replaces what was asked for the descriptor before.
  void watch(int descriptor, short events, Callback ready);
  /// To be called before the descriptor is closed. Callbacks may watch and forget.
  void forget(int descriptor);
  /// Waits until something is ready or the deadline passes; makes all calls that are due.
  void wait(const Deadline& deadline);

 private:
  struct Watched {
    short events;
    Callback ready;
  };
  std::map<int, Watched> watched_;
};

}  // namespace smoe
