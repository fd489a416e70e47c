#include "kernels/cpu/threads.h"

#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/base/check.h"
#include "core/system/cores.h"

using namespace smoe;

namespace {

// Sets the number of threads for a scope.
class Threads {
 public:
  explicit Threads(int count) : before_(kernels::cpu::num_threads()) {
    kernels::cpu::set_num_threads(count);
  }
  ~Threads() { kernels::cpu::set_num_threads(before_); }

 private:
  int before_;
};

}  // namespace

TEST_CASE("parallel_for calls each task once, for any number of tasks and threads") {
  for (const int count : {1, 2, 3, 8}) {
    const Threads threads(count);
    for (const std::int64_t num_tasks : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> calls(num_tasks);
      kernels::cpu::parallel_for(num_tasks, [&](std::int64_t i, int) { ++calls[i]; });
      for (const auto& n : calls) CHECK(n == 1);
    }
  }
}

TEST_CASE("no two running tasks share a thread's number, which is below the number of threads") {
  const Threads threads(4);
  std::vector<std::atomic<bool>> is_busy(4);
  std::atomic<int> clashes{0};
  for (int round = 0; round < 50; ++round)
    kernels::cpu::parallel_for(64, [&](std::int64_t, int thread) {
      if (thread < 0 || thread >= 4 || is_busy[thread].exchange(true)) {
        ++clashes;
        return;
      }
      std::this_thread::yield();
      is_busy[thread] = false;
    });
  CHECK(clashes == 0);
}

TEST_CASE("writes of tasks are visible when parallel_for returns, call after call") {
  const Threads threads(3);
  std::vector<std::int64_t> values(100, 0);
  for (int round = 1; round <= 2000; ++round) {
    kernels::cpu::parallel_for(100, [&](std::int64_t i, int) { values[i] += i; });
    if (round % 500 == 0)
      for (std::int64_t i = 0; i < 100; ++i) CHECK(values[i] == round * i);
  }
}

TEST_CASE("parallel_blocks splits a range into blocks, the last of which may be shorter") {
  const Threads threads(3);
  for (const std::int64_t size : {0, 1, 9, 10, 11, 95}) {
    std::vector<std::atomic<int>> covered(size);
    std::atomic<int> bad{0};
    kernels::cpu::parallel_blocks(size, 10, [&](std::int64_t begin, std::int64_t end, int) {
      if (begin % 10 != 0 || (end - begin != 10 && end != size) || begin >= end) ++bad;
      for (std::int64_t i = begin; i < end; ++i) ++covered[i];
    });
    CHECK(bad == 0);
    for (const auto& n : covered) CHECK(n == 1);
  }
}

TEST_CASE("a task's exception reaches the caller, and the pool stays usable") {
  for (const int count : {1, 3}) {
    const Threads threads(count);
    for (int round = 0; round < 20; ++round) {
      CHECK_THROWS_WITH_AS(kernels::cpu::parallel_for(50,
                                                      [](std::int64_t i, int) {
                                                        if (i % 7 == 3)
                                                          throw std::runtime_error("task");
                                                      }),
                           "task", std::runtime_error);
      std::atomic<int> calls{0};
      kernels::cpu::parallel_for(50, [&](std::int64_t, int) { ++calls; });
      CHECK(calls == 50);
    }
  }
}

TEST_CASE("callers from several threads take turns") {
  const Threads threads(2);
  std::atomic<std::int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller)
    callers.emplace_back([&] {
      for (int round = 0; round < 100; ++round)
        kernels::cpu::parallel_for(10, [&](std::int64_t i, int) { sum += i; });
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(sum == 3 * 100 * 45);
}

// tests/scripts/cpu_quota.sh runs it under a quota below the affinity mask.
TEST_CASE("by default there are as many threads as usable cores") {
  CHECK(kernels::cpu::num_threads() == kernels::cpu::bounded_threads(num_usable_cores()));
}

TEST_CASE("the number of threads is bounded") {
  const Threads threads(2);
  CHECK_THROWS_WITH_AS(kernels::cpu::set_num_threads(0),
                       "set_num_threads: num_threads must be at least 1; got 0", UsageError);
  CHECK(kernels::cpu::num_threads() == 2);
  // Hosts with more cores than that set the number of them.
  CHECK(kernels::cpu::bounded_threads(1023) == 1023);
  CHECK(kernels::cpu::bounded_threads(1025) == 1024);
  CHECK(kernels::cpu::bounded_threads(6144) == 1024);
}
