#include "core/distributed/gpu/watchdog.h"

#include <utility>

#include "core/gpu.h"
#include "core/system/block_signals.h"

namespace smoe {
namespace {

constexpr std::chrono::milliseconds kPeriod{5};
// For the other ranks to report that they wait, too; those that do not are the late ones.
constexpr double kLateSeconds = 0.5;
constexpr double kAbortSeconds = 5;
// From a failure to the moment by which the watched thread must have noticed it.
constexpr double kNoticeSeconds = 10;

/// Whether the device has reached the event. Throws: SystemError.
bool has_passed(cudaEvent_t event) {
  const std::lock_guard lock(gpu::background_calls());
  const cudaError_t code = cudaEventQuery(event);
  if (code == cudaErrorNotReady) {
    cudaGetLastError();  // not an error; must not be left for later checks
    return false;
  }
  CUDA_CHECK(code);
  return true;
}

}  // namespace

Watchdog::Watchdog(DeviceConnection& connection, Communicator& control, RendezvousStore store,
                   Options options, int device)
    : connection_(connection),
      control_(control),
      store_(std::move(store)),
      options_(std::move(options)),
      device_(device),
      timeout_s_(options_.timeout_s) {
  const BlockSignals blocked;
  thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    is_closing_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Watchdog::follow(std::shared_ptr<DeviceOperation> operation) {
  const std::lock_guard lock(mutex_);
  operations_.push_back(std::move(operation));
}

void Watchdog::fail(const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (has_failed_) return;
  failure_ = why;
  has_failed_ = true;
  changed_.notify_all();
}

std::string Watchdog::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void Watchdog::check(const char* op) {
  if (!has_failed_) return;
  const std::lock_guard lock(mutex_);
  has_noticed_ = true;
  changed_.notify_all();
  throw CommunicationError(concat(op, ": ", failure_));
}

void Watchdog::watch() {
  {
    const std::lock_guard calls(gpu::background_calls());
    cudaSetDevice(device_);
  }
  std::unique_lock lock(mutex_);
  while (!is_closing_ && !has_failed_) {
    changed_.wait_for(lock, kPeriod);
    lock.unlock();
    if (const std::string why = find_failure(); !why.empty()) fail(why);
    lock.lock();
  }
  lock.unlock();
  if (has_failed_) end_connection();
}

/// Stopping it frees the device of operations that never end, and with it a thread that waits for
/// it inside CUDA.
void Watchdog::end_connection() {
  const bool was_stopped = connection_.stop(Deadline::in(kAbortSeconds));
  std::unique_lock lock(mutex_);
  const bool was_noticed =
      was_stopped && changed_.wait_for(lock, std::chrono::duration<double>(kNoticeSeconds),
                                       [this] { return has_noticed_ || is_closing_; });
  if (is_closing_ || was_noticed || !options_.on_stuck) return;
  const std::string why = failure_;
  lock.unlock();
  options_.on_stuck(why);
}

std::string Watchdog::find_failure() {
  try {
    std::string why = control_.failure();
    if (why.empty()) why = connection_.background_error();
    return why.empty() ? find_overdue() : why;
  } catch (const Error& error) {
    return error.what();
  }
}

std::string Watchdog::find_overdue() {
  while (const std::shared_ptr<DeviceOperation> first = front()) {
    if (!has_passed(first->done)) {
      if (!deadline_ && has_passed(first->ready)) deadline_ = Deadline::in(timeout_s_);
      if (!deadline_ || !deadline_->has_passed()) return "";
      return concat(first->name, ": ", late_ranks(), " did not respond within ",
                    deadline_->total_s(), " s");
    }
    deadline_.reset();
    const std::lock_guard lock(mutex_);
    operations_.pop_front();
  }
  return "";
}

std::shared_ptr<DeviceOperation> Watchdog::front() const {
  const std::lock_guard lock(mutex_);
  return operations_.empty() ? nullptr : operations_.front();
}

std::string Watchdog::late_ranks() {
  std::string late;
  try {
    const auto key = [](int rank) { return concat("gpu/waits/", rank); };
    store_.set(key(control_.rank()), "", Deadline::in(kLateSeconds));
    std::this_thread::sleep_for(std::chrono::duration<double>(kLateSeconds));
    for (int rank = 0; rank < control_.world_size(); ++rank)
      if (!store_.find(key(rank), Deadline::in(kLateSeconds)))
        late += concat(late.empty() ? "rank " : ", ", rank);
    return late.empty() ? "a GPU, though all ranks wait for it," : late;
  } catch (const Error&) {
    // The process that serves the store may be the late one.
    return control_.world_size() == 2 ? concat("rank ", 1 - control_.rank()) : "some rank";
  }
}

}  // namespace smoe
