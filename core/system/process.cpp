#include "core/system/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "core/system/io_calls.h"
#include "core/system/nonblocking_output.h"

namespace smoe {
namespace {

constexpr const char* kThreadsVariable = "OPENBLAS_NUM_THREADS";

bool is_address_space_limited() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
}

}  // namespace

void prepare_process() {
  for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream) {
    if (::fcntl(stream, F_GETFD) >= 0 || errno != EBADF) continue;
    // Gets the lowest free descriptor, which is `stream`, since those below it are open.
    static Descriptor opened[3];
    opened[stream] = io::open_path("/dev/null", O_RDWR);
    ::fcntl(stream, F_SETFD, 0);  // inherited by child processes, as a standard stream
  }
  for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream) restore_blocking(stream);
  ::signal(SIGXFSZ, SIG_IGN);
}

void restart_without_openblas_threads(char** argv) {
  if (std::getenv(kThreadsVariable) != nullptr || !is_address_space_limited()) return;
  if (::setenv(kThreadsVariable, "1", 0) == 0) ::execv("/proc/self/exe", argv);
  // If that failed, the program runs as it was started.
}

}  // namespace smoe
