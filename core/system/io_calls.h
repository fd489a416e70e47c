// The thin layer of core/io: every system call passes here, by the name that fault.h knows it by.
// Not for use outside of core/io*.cpp.
#pragma once
#include <sys/types.h>

#include <cerrno>
#include <string>

#include "core/system/fault.h"

namespace smoe::io {

/// Whether a test wants the call at `site` to fail; errno says how.
inline bool fails_on_purpose(const char* site) {
  const int error = fault_point(site).error;
  if (error) errno = error;
  return error != 0;
}

/// Makes the call again for as long as a signal interrupts it. Returns its result, errno set.
template <class Call>
auto uninterrupted(const char* site, Call&& call) {
  for (;;) {
    const auto result = fails_on_purpose(site) ? -1 : call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

/// Reads or writes: call(bytes) may do less than it is asked for. Returns what it did, errno set.
template <class Call>
ssize_t transfer(const char* site, std::size_t bytes, Call&& call) {
  for (;;) {
    const Fault fault = fault_point(site);
    errno = fault.error;
    const ssize_t done = fault.error ? -1 : call(fault.is_short ? (bytes + 1) / 2 : bytes);
    if (done >= 0 || errno != EINTR) return done;
  }
}

/// Throws: SystemError, `what` and errno's meaning, always.
[[noreturn]] void fail(const std::string& what);

/// As uninterrupted; a failure throws, named by what was done to which file.
template <class Call>
auto checked(const char* site, const std::string& what, Call&& call) {
  const auto result = uninterrupted(site, call);
  if (result < 0) fail(what);
  return result;
}

/// Opens a file or folder. Throws: SystemError.
int open_descriptor(const std::string& path, int flags);

/// Closes a descriptor. Returns 0, or -1 with errno set: it is gone all the same.
int close_descriptor(int descriptor);

/// Closes a descriptor that was only read from, whose close can lose nothing.
struct Closer {
  int descriptor;
  ~Closer() { close_descriptor(descriptor); }
};

}  // namespace smoe::io
