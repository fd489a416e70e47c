#include "core/system/io_calls.h"

#include <fcntl.h>

#include <system_error>

#include "core/base/check.h"

namespace smoe::io {

void fail(const std::string& what) {
  throw SystemError(concat(what, ": ", std::generic_category().message(errno)));
}

Descriptor open_path(const std::string& path, int flags) {
  // O_NONBLOCK: opening a pipe without a writer must reach the caller's file type check, not block.
  return Descriptor(checked("open", "open " + path, [&] {
    return ::open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
  }));
}

}  // namespace smoe::io
