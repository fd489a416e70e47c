#include "core/distributed/nccl_communicator.h"

#include <cstring>
#include <optional>
#include <vector>

#include "core/base/cuda.cuh"
#include "core/distributed/gpu/gpu_communicator.h"
#include "core/distributed/nccl/nccl_connection.h"

namespace smoe {
namespace {

ncclDataType_t sum_type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return ncclFloat32;
    case DType::f64:
      return ncclFloat64;
    case DType::bf16:
      return ncclBfloat16;
    default:
      return ncclInt64;
  }
}

class NcclCommunicator final : public GpuCommunicator {
 public:
  NcclCommunicator(RendezvousStore& store, Communicator& control, const NcclOptions& options)
      : GpuCommunicator(control) {
    const Deadline deadline = Deadline::in(options.timeout_s);
    connection_.emplace(shared_id(store, deadline), rank(), world_size(), options.max_ctas,
                        deadline, [&] { return control.failure(); });
    start(*connection_, store.connect_again(deadline), {options.timeout_s, options.on_stuck});
    warm_up(concat("NCCL ", nccl_version(), ", at most ", options.max_ctas, " CTAs"),
            nccl_variables());
  }
  ~NcclCommunicator() override { end(); }

 private:
  void queue_all_reduce(const Tensor& values) override {
    enqueue("all_reduce", [&](const NcclLibrary& nccl, ncclComm_t comm) {
      return nccl.all_reduce(values.data(), values.data(), values.numel(),
                             sum_type_of(values.dtype()), ncclSum, comm, stream());
    });
  }

  void queue_reduce_scatter(const Tensor& values) override {
    const ncclDataType_t type = sum_type_of(values.dtype());
    enqueue("reduce_scatter", [&](const NcclLibrary& nccl, ncclComm_t comm) {
      if (has_equal_shards(values))
        return nccl.reduce_scatter(values.data(), shard_data(values, rank()),
                                   values.numel() / world_size(), type, ncclSum, comm, stream());
      return for_each_shard(nccl, values, [&](int root, void* data, std::int64_t numel) {
        return nccl.reduce(data, data, numel, type, ncclSum, root, comm, stream());
      });
    });
  }

  void queue_all_gather(const Tensor& values) override {
    const std::int64_t size = size_of(values.dtype());
    enqueue("all_gather", [&](const NcclLibrary& nccl, ncclComm_t comm) {
      if (has_equal_shards(values))
        return nccl.all_gather(shard_data(values, rank()), values.data(),
                               values.bytes() / world_size(), ncclInt8, comm, stream());
      return for_each_shard(nccl, values, [&](int root, void* data, std::int64_t numel) {
        return nccl.broadcast(data, data, numel * size, ncclInt8, root, comm, stream());
      });
    });
  }

  void queue_broadcast(const std::vector<RootedTensor>& tensors) override {
    enqueue("broadcast", [&](const NcclLibrary& nccl, ncclComm_t comm) {
      return group(nccl, tensors.size(), [&](std::size_t i) {
        const auto& [values, root] = tensors[i];
        if (values.numel() == 0) return ncclSuccess;
        return nccl.broadcast(values.data(), values.data(), values.bytes(), ncclInt8, root, comm,
                              stream());
      });
    });
  }

  void enqueue(const char* name, const NcclConnection::Call& call) {
    connection_->enqueue(name, call, Deadline::in(timeout_s()));
  }

  bool has_equal_shards(const Tensor& values) const {
    return shard_range(values.numel(), world_size() - 1, world_size()).numel() * world_size() ==
           values.numel();
  }

  /// Calls f(0) ... f(count - 1), of which NCCL makes one operation.
  template <class F>
  static ncclResult_t group(const NcclLibrary& nccl, std::size_t count, F&& f) {
    ncclResult_t result = nccl.group_start();
    for (std::size_t i = 0; i < count && result == ncclSuccess; ++i) {
      result = f(i);
      if (result == ncclInProgress) result = ncclSuccess;
    }
    const ncclResult_t ended = nccl.group_end();
    return result == ncclSuccess ? ended : result;
  }

  /// A group of f(rank, first element, number of elements) for the shards that are not empty.
  template <class F>
  ncclResult_t for_each_shard(const NcclLibrary& nccl, const Tensor& values, F&& f) const {
    return group(nccl, world_size(), [&](std::size_t root) {
      const std::int64_t numel =
          shard_range(values.numel(), static_cast<int>(root), world_size()).numel();
      return numel == 0
                 ? ncclSuccess
                 : f(static_cast<int>(root), shard_data(values, static_cast<int>(root)), numel);
    });
  }

  ncclUniqueId shared_id(RendezvousStore& store, const Deadline& deadline) const {
    ncclUniqueId id;
    if (rank() == 0) {
      const ncclResult_t result = nccl_library().get_unique_id(&id);
      if (result != ncclSuccess)
        throw SystemError(
            concat("nccl: ncclGetUniqueId: ", nccl_library().get_error_string(result),
                   "; on a host without a network interface set NCCL_SOCKET_IFNAME=lo"));
      store.set("nccl/id", {id.internal, sizeof id.internal}, deadline);
    } else {
      const std::string bytes = store.get("nccl/id", deadline);
      if (bytes.size() != sizeof id.internal)
        throw SystemError(concat("nccl: the id of rank 0 has ", bytes.size(), " bytes, not ",
                                 sizeof id.internal));
      std::memcpy(id.internal, bytes.data(), sizeof id.internal);
    }
    return id;
  }

  std::optional<NcclConnection> connection_;
};

}  // namespace

std::unique_ptr<Communicator> nccl_communicator(RendezvousStore& store, Communicator& control,
                                                const NcclOptions& options) {
  if (const std::string reason = nccl_unavailable_reason(); !reason.empty())
    throw UsageError(
        concat("communicator: ", control.world_size(), " ranks on GPUs need NCCL: ", reason));
  return std::make_unique<NcclCommunicator>(store, control, options);
}

}  // namespace smoe
