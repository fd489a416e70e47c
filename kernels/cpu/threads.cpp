#include "kernels/cpu/threads.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/base/check.h"
#include "core/system/cores.h"
#include "kernels/ceil_div.h"

namespace smoe::kernels::cpu {
namespace {

using Task = std::function<void(std::int64_t, int)>;

// Kernels follow each other within microseconds, and the threads of a kernel finish within
// microseconds of each other, so a waiting thread spins this many times before it sleeps.
constexpr int kSpins = 4000;

class ThreadPool {
 public:
  explicit ThreadPool(int num_threads) {
    try {
      for (int thread = 1; thread < num_threads; ++thread)
        workers_.emplace_back([this, thread] { work(thread); });
    } catch (const std::system_error& error) {
      const int started = size();
      join_all();
      throw SystemError(concat("threads: only ", started, " of ", num_threads,
                               " could be started: ", error.code().message()));
    }
  }
  ~ThreadPool() { join_all(); }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  void run(std::int64_t num_tasks, const Task& task) {
    if (num_tasks <= 0) return;
    if (workers_.empty() || num_tasks == 1) {
      for (std::int64_t i = 0; i < num_tasks; ++i) task(i, 0);
      return;
    }
    const std::lock_guard one_job_at_a_time(run_mutex_);
    {
      const std::lock_guard lock(mutex_);
      task_ = &task;
      num_tasks_ = num_tasks;
      next_.store(0, std::memory_order_relaxed);
      running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
      error_ = nullptr;
      job_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    take_tasks(0);
    wait_for_workers();
    if (error_) std::rethrow_exception(error_);
  }

  int size() const { return static_cast<int>(workers_.size()) + 1; }

 private:
  void join_all() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      job_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  void work(int thread) {
    std::uint64_t seen = 0;
    while (true) {
      for (int spin = 0; spin < kSpins && job_.load(std::memory_order_acquire) == seen; ++spin)
        _mm_pause();
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return job_.load(std::memory_order_relaxed) != seen; });
        seen = job_.load(std::memory_order_relaxed);
        if (stopping_) return;
      }
      take_tasks(thread);
      if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
    }
  }

  void wait_for_workers() {
    int running = running_.load(std::memory_order_acquire);
    for (int spin = 0; spin < kSpins && running > 0; ++spin) {
      _mm_pause();
      running = running_.load(std::memory_order_acquire);
    }
    for (; running > 0; running = running_.load(std::memory_order_acquire)) running_.wait(running);
  }

  void take_tasks(int thread) {
    try {
      for (std::int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < num_tasks_;)
        (*task_)(i, thread);
    } catch (...) {
      next_.store(num_tasks_, std::memory_order_relaxed);
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  std::vector<std::thread> workers_;
  std::mutex run_mutex_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<std::uint64_t> job_{0};
  std::atomic<std::int64_t> next_{0};
  std::atomic<int> running_{0};
  const Task* task_ = nullptr;
  std::int64_t num_tasks_ = 0;
  std::exception_ptr error_;
  bool stopping_ = false;
};

std::unique_ptr<ThreadPool>& pool() {
  static auto pool = std::make_unique<ThreadPool>(bounded_threads(num_usable_cores()));
  return pool;
}

}  // namespace

int bounded_threads(int num_cores) {
  return std::min(num_cores, kMaxThreads);
}

void set_num_threads(int num_threads) {
  SMOE_CHECK(num_threads >= 1, "set_num_threads: num_threads must be at least 1; got ",
             num_threads);
  const int size = bounded_threads(num_threads);
  if (pool()->size() != size) pool() = std::make_unique<ThreadPool>(size);
}

int num_threads() {
  return pool()->size();
}

void parallel_for(std::int64_t num_tasks, const Task& task) {
  pool()->run(num_tasks, task);
}

void parallel_blocks(
    std::int64_t size, std::int64_t block,
    const std::function<void(std::int64_t begin, std::int64_t end, int thread)>& task) {
  parallel_for(ceil_div(size, block), [&](std::int64_t i, int thread) {
    task(i * block, std::min(size, (i + 1) * block), thread);
  });
}

}  // namespace smoe::kernels::cpu
