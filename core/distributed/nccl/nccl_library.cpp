#include "core/distributed/nccl/nccl_library.h"

#include "core/base/dynamic_library.h"
#include "core/distributed/nccl_communicator.h"

namespace smoe {
namespace {

constexpr int kOldestVersion = NCCL_VERSION(2, 18, 0);

std::string to_string(int version) {
  return concat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

int version_of(const NcclLibrary& nccl) {
  int version = 0;
  nccl.get_version(&version);
  return version;
}

NcclLibrary load_library() {
  const DynamicLibrary library({"libnccl.so.2"},
                               "install libnccl2, or set LD_LIBRARY_PATH to its folder");
  NcclLibrary nccl;
  library.load("ncclGetVersion", nccl.get_version);
  SMOE_CHECK(version_of(nccl) >= kOldestVersion, "nccl: must be ", to_string(kOldestVersion),
             " or newer; got ", to_string(version_of(nccl)));
  library.load("ncclGetUniqueId", nccl.get_unique_id);
  library.load("ncclGetErrorString", nccl.get_error_string);
  library.load("ncclGetLastError", nccl.get_last_error);
  library.load("ncclCommInitRankConfig", nccl.comm_init_rank_config);
  library.load("ncclCommGetAsyncError", nccl.comm_get_async_error);
  library.load("ncclCommFinalize", nccl.comm_finalize);
  library.load("ncclCommDestroy", nccl.comm_destroy);
  library.load("ncclCommAbort", nccl.comm_abort);
  library.load("ncclGroupStart", nccl.group_start);
  library.load("ncclGroupEnd", nccl.group_end);
  library.load("ncclAllReduce", nccl.all_reduce);
  library.load("ncclReduceScatter", nccl.reduce_scatter);
  library.load("ncclReduce", nccl.reduce);
  library.load("ncclAllGather", nccl.all_gather);
  library.load("ncclBroadcast", nccl.broadcast);
  return nccl;
}

}  // namespace

const NcclLibrary& nccl_library() {
  static const NcclLibrary library = load_library();
  return library;
}

std::string nccl_unavailable_reason() {
  try {
    nccl_library();
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

std::string nccl_version() {
  return to_string(version_of(nccl_library()));
}

}  // namespace smoe
