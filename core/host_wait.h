// HostWaitScope: lets something end the host's waits for a device. A collective operation whose
// other ranks are gone never finishes on the device, so that every wait must ask now and then.
#pragma once
#include <functional>

namespace smoe {

/// While it lives, waits of this thread for a device call `check` again and again; what it throws
/// ends the wait. Scopes nest; the innermost counts.
class HostWaitScope {
 public:
  explicit HostWaitScope(std::function<void()> check);
  ~HostWaitScope();
  HostWaitScope(const HostWaitScope&) = delete;
  HostWaitScope& operator=(const HostWaitScope&) = delete;

 private:
  std::function<void()> check_;
  const std::function<void()>* previous_;
};

/// Whether a scope is active on this thread.
bool has_host_wait_check();

/// Returns when `is_done()` does, calling the innermost scope's check between: busily at first,
/// since most waits are short, then every 50 us.
void wait_on_host(const std::function<bool()>& is_done);

}  // namespace smoe
