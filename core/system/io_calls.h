// The layer that every file system call passes: it repeats calls that a signal interrupted, turns
// failures into SystemError and is where fault.h injects faults, by the call's site name. Included
// only by the .cpp files of core/system.
#pragma once
#include <sys/types.h>

#include <cerrno>
#include <string>

#include "core/system/descriptor.h"
#include "core/system/fault.h"

namespace smoe::io {

/// Whether a test makes the call at `site` fail; sets errno if so.
inline bool inject_failure(const char* site) {
  const int error = fault_point(site).error;
  if (error) errno = error;
  return error != 0;
}

/// Repeats the call while a signal interrupts it. Returns its result, with errno set.
template <class Call>
auto uninterrupted(const char* site, Call&& call) {
  for (;;) {
    const auto result = inject_failure(site) ? -1 : call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

/// Reads or writes: call(bytes) may transfer fewer bytes than requested. Returns the number of
/// bytes transferred or -1, with errno set.
template <class Call>
ssize_t transfer(const char* site, std::size_t bytes, Call&& call) {
  for (;;) {
    const Fault fault = fault_point(site);
    errno = fault.error;
    const ssize_t done = fault.error ? -1 : call(fault.is_short ? (bytes + 1) / 2 : bytes);
    if (done >= 0 || errno != EINTR) return done;
  }
}

/// Whether `error`, an errno, says that a path leads nowhere.
inline bool is_missing(int error) {
  return error == ENOENT || error == ENOTDIR;
}

/// Always throws SystemError with `what` and the meaning of errno.
[[noreturn]] void fail(const std::string& what);

/// Like uninterrupted, but a failure throws SystemError; `what` names the operation and the path.
template <class Call>
auto checked(const char* site, const std::string& what, Call&& call) {
  const auto result = uninterrupted(site, call);
  if (result < 0) fail(what);
  return result;
}

/// Opens a file or folder; not open, with errno set, when that fails.
Descriptor try_open_path(const std::string& path, int flags);
/// Opens a file or folder. Throws: SystemError.
Descriptor open_path(const std::string& path, int flags);

}  // namespace smoe::io
