#include "core/distributed/nccl/nccl_library.h"

#include <dlfcn.h>

#include "core/base/check.h"
#include "core/distributed/nccl_communicator.h"

namespace smoe {
namespace {

constexpr const char* kFile = "libnccl.so.2";
constexpr int kOldestVersion = NCCL_VERSION(2, 18, 0);

template <class F>
void load(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(::dlsym(library, name));
  if (!function) throw SystemError(concat("nccl: ", kFile, " has no function ", name));
}

std::string to_string(int version) {
  return concat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

int version_of(const NcclLibrary& nccl) {
  int version = 0;
  nccl.get_version(&version);
  return version;
}

NcclLibrary load_library() {
  void* const library = ::dlopen(kFile, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* const reason = ::dlerror();
    throw SystemError(concat("nccl: cannot load ", kFile, ": ", reason ? reason : "unknown reason",
                             "; install libnccl2, or set LD_LIBRARY_PATH to its folder"));
  }
  NcclLibrary nccl;
  load(library, "ncclGetVersion", nccl.get_version);
  SMOE_CHECK(version_of(nccl) >= kOldestVersion, "nccl: must be ", to_string(kOldestVersion),
             " or newer; got ", to_string(version_of(nccl)));
  load(library, "ncclGetUniqueId", nccl.get_unique_id);
  load(library, "ncclGetErrorString", nccl.get_error_string);
  load(library, "ncclGetLastError", nccl.get_last_error);
  load(library, "ncclCommInitRankConfig", nccl.comm_init_rank_config);
  load(library, "ncclCommGetAsyncError", nccl.comm_get_async_error);
  load(library, "ncclCommFinalize", nccl.comm_finalize);
  load(library, "ncclCommDestroy", nccl.comm_destroy);
  load(library, "ncclCommAbort", nccl.comm_abort);
  load(library, "ncclGroupStart", nccl.group_start);
  load(library, "ncclGroupEnd", nccl.group_end);
  load(library, "ncclAllReduce", nccl.all_reduce);
  load(library, "ncclReduceScatter", nccl.reduce_scatter);
  load(library, "ncclReduce", nccl.reduce);
  load(library, "ncclAllGather", nccl.all_gather);
  load(library, "ncclBroadcast", nccl.broadcast);
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
