#include "train/launch/console.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "core/base/check.h"
#include "core/system/nonblocking_output.h"

namespace smoe {
namespace {

constexpr std::size_t kMaxPendingBytes = std::size_t{1} << 20;

}  // namespace

ConsoleStream::ConsoleStream(PollLoop& loop, int descriptor)
    : loop_(loop), descriptor_(reopen_nonblocking(descriptor)) {}

ConsoleStream::~ConsoleStream() {
  if (descriptor_.is_open()) loop_.forget(descriptor_.number());
}

void ConsoleStream::write(std::string_view bytes) {
  if (!descriptor_.is_open()) return;
  if (dropped_bytes_ > 0 || pending_.size() + bytes.size() > kMaxPendingBytes) {
    dropped_bytes_ += static_cast<std::int64_t>(bytes.size());
    return;
  }
  pending_ += bytes;
  write_pending();
}

void ConsoleStream::write_pending() {
  while (!pending_.empty()) {
    const ssize_t written = ::write(descriptor_.number(), pending_.data(), pending_.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) {
      loop_.watch(descriptor_.number(), POLLOUT, [this] { write_pending(); });
      return;
    }
    if (written < 0) {  // the reader has closed it; the job continues, with complete logs
      loop_.forget(descriptor_.number());
      descriptor_.close();
      pending_.clear();
      return;
    }
    pending_.erase(0, static_cast<std::size_t>(written));
    if (pending_.empty() && dropped_bytes_ > 0)
      pending_ =
          concat("\nsmoe launch: ", std::exchange(dropped_bytes_, 0),
                 " bytes of output were dropped, as the console is too slow; logs are complete\n");
  }
  loop_.forget(descriptor_.number());
}

Console::~Console() {
  try {
    for (const Deadline deadline = Deadline::in(1); !deadline.has_passed();) {
      if (!output_.has_pending() && !error_.has_pending()) return;
      loop_.wait(deadline);
    }
  } catch (const std::exception&) {  // what is pending is in the logs too
  }
}

void Console::print_line(std::string_view line) {
  error_.write(concat("smoe launch: ", line, "\n"));
}

}  // namespace smoe
