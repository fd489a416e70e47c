#include "train/launch/poll_loop.h"

#include <poll.h>

#include <cerrno>
#include <system_error>
#include <vector>

#include "core/base/check.h"

namespace smoe {

void PollLoop::watch(int descriptor, short events, Callback ready) {
  watched_[descriptor] = {events, std::move(ready)};
}

void PollLoop::forget(int descriptor) {
  watched_.erase(descriptor);
}

void PollLoop::wait(const Deadline& deadline) {
  std::vector<pollfd> polled;
  for (const auto& [descriptor, what] : watched_) polled.push_back({descriptor, what.events, 0});
  const int timeout_ms = static_cast<int>(deadline.left().count());
  if (::poll(polled.data(), polled.size(), timeout_ms) < 0) {
    if (errno == EINTR) return;
    throw SystemError(concat("poll: ", std::generic_category().message(errno)));
  }
  for (const pollfd& entry : polled) {
    if (!entry.revents) continue;
    const auto found = watched_.find(entry.fd);
    if (found == watched_.end()) continue;       // forgotten by an earlier callback
    const Callback ready = found->second.ready;  // a copy: it may call forget
    ready();
  }
}

}  // namespace smoe
