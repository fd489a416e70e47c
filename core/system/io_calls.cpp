#include "core/system/io_calls.h"

#include <fcntl.h>

#include <system_error>

#include "core/base/check.h"

namespace smoe::io {

void fail(const std::string& what) {
  throw SystemError(concat(what, ": ", std::generic_category().message(errno)));
}

Descriptor try_open_path(const std::string& path, int flags) {
  // O_NONBLOCK: opening a pipe without a writer must reach the caller's file type check, not block.
  return Descriptor(uninterrupted("open", [&] {
    return ::open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
  }));
}

Descriptor open_path(const std::string& path, int flags) {
  Descriptor descriptor = try_open_path(path, flags);
  if (descriptor.is_open()) return descriptor;
  if (errno == ELOOP && (flags & O_NOFOLLOW) != 0)
    throw SystemError(concat("open ", path, ": is a link; links are not followed here"));
  fail("open " + path);
}

}  // namespace smoe::io
