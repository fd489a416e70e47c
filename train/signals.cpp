#include "train/signals.h"

#include <signal.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <system_error>

#include "core/base/check.h"

namespace smoe {
namespace {

constexpr std::array kSignals = {SIGTERM, SIGINT, SIGUSR1};

// Lock-free, hence safe to write in a signal handler.
std::atomic<int> last_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);

std::atomic<bool> is_installed{false};
std::array<struct sigaction, kSignals.size()> former_actions;

extern "C" void store_signal(int signal) {
  last_signal.store(signal, std::memory_order_relaxed);
}

}  // namespace

StopSignals::StopSignals() {
  SMOE_INTERNAL_CHECK(!is_installed.exchange(true), "signals: already handled by another object");
  last_signal = 0;
  struct sigaction action {};
  action.sa_handler = store_signal;
  action.sa_flags = SA_RESTART;  // resumes reads and writes in progress
  ::sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    if (::sigaction(kSignals[i], &action, &former_actions[i]) == 0) continue;
    const int error = errno;
    while (i-- > 0) ::sigaction(kSignals[i], &former_actions[i], nullptr);
    is_installed = false;
    throw SystemError(concat("sigaction: ", std::generic_category().message(error)));
  }
}

StopSignals::~StopSignals() {
  for (std::size_t i = 0; i < kSignals.size(); ++i)
    ::sigaction(kSignals[i], &former_actions[i], nullptr);
  is_installed = false;
}

int StopSignals::received() const {
  return last_signal.load(std::memory_order_relaxed);
}

const char* signal_name(int signal) {
  switch (signal) {
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    case SIGUSR1:
      return "SIGUSR1";
    default:
      return "signal";
  }
}

}  // namespace smoe
