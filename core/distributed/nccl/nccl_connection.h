// NcclConnection: one NCCL communicator handle in non-blocking mode. Calls return at once and are
// polled until NCCL has queued their kernels, so that an event recorded afterwards follows them;
// every wait has a deadline, and another thread can end it.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "core/distributed/gpu/device_connection.h"
#include "core/distributed/nccl/nccl_library.h"

namespace smoe {

class NcclConnection final : public DeviceConnection {
 public:
  /// Connects the current device with those of the other ranks, which must all do so with the same
  /// id. `failure` is asked meanwhile; anything but an empty text ends the attempt.
  /// Throws: CommunicationError.
  NcclConnection(const ncclUniqueId& id, int rank, int world_size, int max_ctas,
                 const Deadline& deadline, const std::function<std::string()>& failure);
  /// Aborts unless close() succeeded.
  ~NcclConnection() override;
  NcclConnection(const NcclConnection&) = delete;
  NcclConnection& operator=(const NcclConnection&) = delete;

  using Call = std::function<ncclResult_t(const NcclLibrary&, ncclComm_t)>;
  /// Runs `call`, a collective or a group of them; when it returns, their kernels are queued.
  /// `name` is for messages. Throws: CommunicationError when NCCL fails, the deadline passes or
  /// stop() is called meanwhile or was called before.
  void enqueue(const char* name, const Call& call, const Deadline& deadline);

  std::string background_error() override;
  bool close(const Deadline& deadline) override;
  /// In a helper thread, since NCCL may block there. When the deadline passes, the helper and the
  /// handle are abandoned.
  bool stop(const Deadline& deadline) override;

 private:
  struct Handle;
  std::shared_ptr<Handle> handle_;  // shared with the helper
};

}  // namespace smoe
