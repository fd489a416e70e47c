#include "core/distributed/nccl/nccl_connection.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "core/base/cuda.cuh"
#include "core/distributed/communicator.h"
#include "core/system/block_signals.h"

namespace smoe {
namespace {

// How long an abort waits for another thread to return from NCCL.
constexpr std::chrono::seconds kLeaveTime{2};
constexpr double kAbortSeconds = 5;

}  // namespace

struct NcclConnection::Handle {
  const NcclLibrary& nccl = nccl_library();
  std::timed_mutex mutex;  // NCCL does not expect two threads in one communicator
  ncclComm_t comm = nullptr;
  std::atomic<bool> is_aborting{false};

  std::mutex ended_mutex;  // of the two below
  std::condition_variable ended_changed;
  bool has_ended = false;

  std::string reason_of(ncclResult_t result) const {
    const char* const detail = comm ? nccl.get_last_error(comm) : nullptr;
    return concat(nccl.get_error_string(result), detail && *detail ? ": " : "",
                  detail ? detail : "");
  }

  /// Polls until what `result` was the answer to is done. With the mutex held.
  void settle(const char* name, ncclResult_t result, const Deadline& deadline,
              const std::function<std::string()>& failure = nullptr) {
    while (result == ncclInProgress) {
      if (is_aborting) throw CommunicationError(concat(name, ": the communicator was aborted"));
      if (deadline.has_passed())
        throw CommunicationError(
            concat(name, ": other ranks did not respond within ", deadline.total_s(), " s"));
      if (const std::string why = failure ? failure() : ""; !why.empty())
        throw CommunicationError(concat(name, ": ", why));
      std::this_thread::yield();
      if (const ncclResult_t asked = nccl.comm_get_async_error(comm, &result); asked != ncclSuccess)
        result = asked;
    }
    if (result != ncclSuccess) throw CommunicationError(concat(name, ": ", reason_of(result)));
  }

  void mark_ended() {
    const std::lock_guard lock(ended_mutex);
    has_ended = true;
    ended_changed.notify_all();
  }
  bool wait_until_ended(const Deadline& deadline) {
    std::unique_lock lock(ended_mutex);
    return ended_changed.wait_until(lock, deadline.at(), [this] { return has_ended; });
  }
};

NcclConnection::NcclConnection(const ncclUniqueId& id, int rank, int world_size, int max_ctas,
                               const Deadline& deadline,
                               const std::function<std::string()>& failure)
    : handle_(std::make_shared<Handle>()) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.maxCTAs = max_ctas;
  const std::lock_guard lock(handle_->mutex);
  const ncclResult_t result =
      handle_->nccl.comm_init_rank_config(&handle_->comm, world_size, id, rank, &config);
  try {
    handle_->settle("connect", result, deadline, failure);
  } catch (...) {
    // The helper takes the mutex, so the handle is given to it first.
    std::thread([handle = handle_, comm = std::exchange(handle_->comm, nullptr)] {
      if (comm) handle->nccl.comm_abort(comm);
      handle->mark_ended();
    }).detach();
    handle_->wait_until_ended(Deadline::in(kAbortSeconds));
    throw;
  }
}

NcclConnection::~NcclConnection() {
  stop(Deadline::in(kAbortSeconds));
}

void NcclConnection::enqueue(const char* name, const Call& call, const Deadline& deadline) {
  const std::lock_guard lock(handle_->mutex);
  if (handle_->is_aborting || !handle_->comm)
    throw CommunicationError(concat(name, ": the communicator was aborted"));
  handle_->settle(name, call(handle_->nccl, handle_->comm), deadline);
}

std::string NcclConnection::background_error() {
  const std::unique_lock lock(handle_->mutex, std::try_to_lock);
  if (!lock || !handle_->comm || handle_->is_aborting) return "";
  ncclResult_t result = ncclSuccess;
  const ncclResult_t asked = handle_->nccl.comm_get_async_error(handle_->comm, &result);
  if (asked != ncclSuccess) result = asked;
  return result == ncclSuccess || result == ncclInProgress ? "" : handle_->reason_of(result);
}

bool NcclConnection::close(const Deadline& deadline) {
  try {
    enqueue(
        "close", [](const NcclLibrary& nccl, ncclComm_t comm) { return nccl.comm_finalize(comm); },
        deadline);
  } catch (const CommunicationError&) {
    return false;
  }
  const std::lock_guard lock(handle_->mutex);
  handle_->nccl.comm_destroy(std::exchange(handle_->comm, nullptr));
  handle_->mark_ended();
  return true;
}

bool NcclConnection::stop(const Deadline& deadline) {
  if (handle_->wait_until_ended(Deadline::in(0))) return true;
  if (!handle_->is_aborting.exchange(true)) {
    const BlockSignals blocked;
    int device = 0;
    cudaGetDevice(&device);
    std::thread([handle = handle_, device] {
      cudaSetDevice(device);
      std::unique_lock lock(handle->mutex, std::defer_lock);
      (void)lock.try_lock_for(kLeaveTime);
      if (ncclComm_t const comm = std::exchange(handle->comm, nullptr))
        handle->nccl.comm_abort(comm);
      handle->mark_ended();
    }).detach();
  }
  return handle_->wait_until_ended(deadline);
}

}  // namespace smoe
