#include "core/host_wait.h"

#include <chrono>
#include <thread>

namespace smoe {
namespace {

thread_local const std::function<void()>* current = nullptr;

constexpr std::chrono::microseconds kBusyTime{200}, kPause{50};

}  // namespace

HostWaitScope::HostWaitScope(std::function<void()> check)
    : check_(std::move(check)), previous_(current) {
  current = &check_;
}

HostWaitScope::~HostWaitScope() {
  current = previous_;
}

bool has_host_wait_check() {
  return current != nullptr;
}

void wait_on_host(const std::function<bool()>& is_done) {
  const auto start = std::chrono::steady_clock::now();
  bool is_busy = true;
  while (!is_done()) {
    if (current) (*current)();
    is_busy = is_busy && std::chrono::steady_clock::now() - start < kBusyTime;
    if (is_busy)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(kPause);
  }
}

}  // namespace smoe
