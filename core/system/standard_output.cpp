#include "core/system/standard_output.h"

#include <poll.h>
#include <signal.h>

namespace smoe {

void ignore_broken_pipes() {
  ::signal(SIGPIPE, SIG_IGN);
}

bool is_reader_gone(int descriptor) {
  pollfd state{descriptor, POLLOUT, 0};
  return ::poll(&state, 1, 0) == 1 && (state.revents & (POLLERR | POLLHUP)) != 0;
}

}  // namespace smoe
