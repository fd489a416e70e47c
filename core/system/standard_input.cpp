#include "core/system/standard_input.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "core/system/io_calls.h"

namespace smoe {

std::optional<std::size_t> read_standard_input(char* target, std::size_t bytes) {
  pollfd state{STDIN_FILENO, POLLIN, 0};
  if (::poll(&state, 1, 100) <= 0) return {};
  const ssize_t got = io::transfer(
      "read", bytes, [&](std::size_t count) { return ::read(STDIN_FILENO, target, count); });
  if (got < 0 && errno == EAGAIN) return {};
  if (got < 0) io::fail("read standard input");
  return static_cast<std::size_t>(got);
}

}  // namespace smoe
