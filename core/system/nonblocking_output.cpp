#include "core/system/nonblocking_output.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <string>

namespace smoe {

int reopen_nonblocking(int descriptor) {
  struct stat info;
  if (::fstat(descriptor, &info) != 0) return -1;
  // O_NONBLOCK is a property of the open file description, not of the descriptor, so the target is
  // opened again. A regular file is not: the second description would have its own position, and
  // the two would overwrite each other.
  if (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode)) {
    const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
    const int opened = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (opened >= 0) return opened;
  }
  return ::fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
}

}  // namespace smoe
