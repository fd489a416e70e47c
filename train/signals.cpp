#include "train/signals.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <ctime>
#include <string_view>
#include <system_error>

#include "core/base/check.h"

namespace smoe {
namespace {

constexpr std::array kSignals = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU};
constexpr std::int64_t kSameRequestMs = 250;

// Lock-free, hence safe to write in a signal handler.
std::atomic<int> first_signal{0};
std::array<std::atomic<std::int64_t>, NSIG> first_ms;  // when each signal first arrived; 0: never
std::atomic<const char*> acknowledgement{nullptr};
static_assert(std::atomic<std::int64_t>::is_always_lock_free);
static_assert(std::atomic<const char*>::is_always_lock_free);

std::atomic<bool> is_installed{false};
std::array<struct sigaction, kSignals.size()> former_actions;

// The functions below run in the handler: only async-signal-safe calls are allowed.

// Records the arrival and returns whether the signal repeats an earlier request.
bool is_second(int signal) {
  if (signal == SIGXCPU) return false;
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const std::int64_t now_ms = std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
  std::int64_t earlier_ms = 0;
  const bool is_first =
      first_ms[signal == SIGTERM ? SIGINT : signal].compare_exchange_strong(earlier_ms, now_ms);
  return !is_first && now_ms - earlier_ms >= kSameRequestMs;
}

// Loses the line rather than wait for a reader.
void acknowledge(int signal) {
  const char* answer = acknowledgement;
  if (answer == nullptr) return;
  std::array<char, 256> line;
  std::size_t size = 0;
  for (const std::string_view part :
       {std::string_view(signal_name(signal)), std::string_view(": "), std::string_view(answer),
        std::string_view("; again to end at once\n")}) {
    const std::size_t count = std::min(part.size(), line.size() - size);
    std::copy_n(part.data(), count, line.data() + size);
    size += count;
  }
  pollfd error{STDERR_FILENO, POLLOUT, 0};
  if (::poll(&error, 1, 0) == 1 && error.revents == POLLOUT)
    static_cast<void>(!::write(STDERR_FILENO, line.data(), size));
}

extern "C" void handle_stop_signal(int signal) {
  const int error = errno;
  int none = 0;
  const bool repeats = is_second(signal);
  if (first_signal.compare_exchange_strong(none, signal)) {
    acknowledge(signal);
  } else if (repeats) {
    ::signal(signal, SIG_DFL);
    ::raise(signal);  // delivered on return
  }
  errno = error;
}

void restore_actions(std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) ::sigaction(kSignals[i], &former_actions[i], nullptr);
  is_installed = false;
}

}  // namespace

StopSignals::StopSignals(const char* answer) {
  SMOE_INTERNAL_CHECK(!is_installed.exchange(true), "signals: already handled by another object");
  first_signal = 0;
  for (auto& time : first_ms) time = 0;
  acknowledgement = answer;
  struct sigaction action {};
  action.sa_handler = handle_stop_signal;
  action.sa_flags = SA_RESTART;  // resumes reads and writes in progress
  ::sigemptyset(&action.sa_mask);
  for (const int signal : kSignals) ::sigaddset(&action.sa_mask, signal);
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    if (::sigaction(kSignals[i], &action, &former_actions[i]) != 0) {
      const int error = errno;
      restore_actions(i);
      throw SystemError(concat("sigaction: ", std::generic_category().message(error)));
    }
    if (kSignals[i] == SIGHUP && former_actions[i].sa_handler == SIG_IGN)
      ::sigaction(SIGHUP, &former_actions[i], nullptr);
  }
}

StopSignals::~StopSignals() {
  restore_actions(kSignals.size());
}

int StopSignals::received() const {
  return first_signal.load(std::memory_order_relaxed);
}

const char* signal_name(int signal) {
  switch (signal) {
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    case SIGHUP:
      return "SIGHUP";
    case SIGUSR1:
      return "SIGUSR1";
    case SIGUSR2:
      return "SIGUSR2";
    case SIGXCPU:
      return "SIGXCPU";
    default:
      return "signal";
  }
}

}  // namespace smoe
