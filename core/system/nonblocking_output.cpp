#include "core/system/nonblocking_output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

namespace smoe {
namespace {

bool is_pipe_or_terminal(int descriptor) {
  struct stat info;
  return ::fstat(descriptor, &info) == 0 && (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode));
}

int reopen(int descriptor, int flags) {
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  return ::open(path.c_str(), flags | O_NOCTTY | O_CLOEXEC);
}

}  // namespace

int reopen_nonblocking(int descriptor) {
  // A regular file is not opened again: the second description would have its own position, and the
  // two would overwrite each other.
  if (is_pipe_or_terminal(descriptor)) {
    const int opened = reopen(descriptor, O_WRONLY | O_NONBLOCK);
    if (opened >= 0) return opened;
  }
  return ::fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
}

void restore_blocking(int descriptor) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  if (flags < 0 || (flags & O_NONBLOCK) == 0 || !is_pipe_or_terminal(descriptor)) return;
  const int opened = reopen(descriptor, flags & O_ACCMODE);
  if (opened < 0) return;
  ::dup2(opened, descriptor);
  ::close(opened);
}

}  // namespace smoe
