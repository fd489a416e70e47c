#include "core/distributed/tcp_mesh.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <system_error>

#include "core/base/check.h"
#include "core/distributed/communicator.h"
#include "core/distributed/connect_ranks.h"

namespace smoe {
namespace {

// The last byte of a connection, from a rank that has finished.
constexpr char kFarewell = 'F';
// The other side will send nothing more; poll reports it although there are bytes to read.
constexpr short kGone = POLLRDHUP | POLLHUP | POLLERR;

}  // namespace

TcpMesh::TcpMesh(int rank, int world_size, RendezvousStore& store, double timeout_s)
    : rank_(rank),
      sockets_(connect_ranks(rank, world_size, store, Deadline::in(timeout_s))),
      sending_(world_size),
      receiving_(world_size),
      polled_(world_size),
      has_left_(world_size),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!wake_.is_open())
    throw SystemError(concat("eventfd: ", std::generic_category().message(errno)));
}

template <class F>
void TcpMesh::for_each_other(F&& f) const {
  // Each rank starts with its neighbor, so that not all send to the same rank first.
  const int world_size = static_cast<int>(sockets_.size());
  for (int i = 1; i < world_size; ++i) f((rank_ + i) % world_size);
}

void TcpMesh::exchange(const char* op, const Deadline& deadline, const SpanOf& send,
                       const SpanOf& receive) {
  check_not_stopped(op);
  for_each_other([&](int other) {
    sending_[other] = send(other);
    receiving_[other] = receive(other);
    polled_[other].revents = POLLIN | POLLOUT;
  });
  while (move_bytes()) {
    check_not_stopped(op);
    if (deadline.has_passed()) fail_late(op, deadline);
    poll(static_cast<int>(deadline.left().count()));
  }
}

/// Sends and receives what is possible without waiting. Returns whether anything is left.
bool TcpMesh::move_bytes() {
  bool is_left = false;
  for_each_other([&](int other) {
    ByteSpan &out = sending_[other], &in = receiving_[other];
    const short ready = polled_[other].revents;
    const auto advance = [&](ByteSpan& span, const Socket::Progress& progress) {
      span.data += progress.bytes;
      span.bytes -= static_cast<std::int64_t>(progress.bytes);
      if (!progress.is_closed) return;
      stop(concat("lost rank ", other, ": it closed the connection"));
    };
    if (out.bytes > 0 && (ready & (POLLOUT | kGone)))
      advance(out, sockets_[other].send_some({out.data, static_cast<std::size_t>(out.bytes)}));
    if (in.bytes > 0 && (ready & (POLLIN | kGone)))
      advance(in, sockets_[other].receive_some(in.data, static_cast<std::size_t>(in.bytes)));
    if (out.bytes == 0 && in.bytes == 0 && (ready & kGone)) check_gone(other);
    is_left |= out.bytes > 0 || in.bytes > 0;
  });
  return is_left;
}

/// Waits until a byte can be moved, a rank is gone, or interrupt() or stop() was called.
void TcpMesh::poll(int timeout_ms) {
  for_each_other([&](int other) {
    short events = POLLRDHUP;
    if (receiving_[other].bytes > 0) events |= POLLIN;
    if (sending_[other].bytes > 0) events |= POLLOUT;
    polled_[other] = {has_left_[other] ? -1 : sockets_[other].descriptor(), events, 0};
  });
  polled_[rank_] = {wake_.number(), POLLIN, 0};
  ::poll(polled_.data(), polled_.size(), timeout_ms);
  std::uint64_t count = 0;
  if (polled_[rank_].revents) static_cast<void>(!::read(wake_.number(), &count, sizeof count));
}

void TcpMesh::fail_late(const char* op, const Deadline& deadline) {
  int late = -1;  // those to receive from before those to send to
  for (const auto* spans : {&receiving_, &sending_})
    for_each_other([&](int other) {
      if (late < 0 && (*spans)[other].bytes > 0) late = other;
    });
  stop("an earlier operation timed out");
  throw CommunicationError(
      concat(op, ": rank ", late, " did not respond within ", deadline.total_s(), " s"));
}

/// A rank that is gone while nothing is exchanged with it has finished, or is lost.
void TcpMesh::check_gone(int other) {
  char bytes[2];
  const ssize_t count =
      ::recv(sockets_[other].descriptor(), bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
  has_left_[other] = true;
  if (count != 1 || bytes[0] != kFarewell)
    stop(concat("lost rank ", other, ": it closed the connection"));
}

void TcpMesh::wait() {
  std::fill(sending_.begin(), sending_.end(), ByteSpan());  // of an exchange that failed
  std::fill(receiving_.begin(), receiving_.end(), ByteSpan());
  for (;;) {
    poll(-1);
    for_each_other([&](int other) {
      if (polled_[other].revents) check_gone(other);
    });
    if (polled_[rank_].revents) return;
  }
}

void TcpMesh::interrupt() {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(wake_.number(), &one, sizeof one));
}

void TcpMesh::leave() {
  if (!stop_reason().empty()) return;
  for_each_other([&](int other) { sockets_[other].send_some({&kFarewell, 1}); });
}

void TcpMesh::stop(const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    if (stopped_.empty()) stopped_ = why;
  }
  interrupt();
}

std::string TcpMesh::stop_reason() const {
  const std::lock_guard lock(mutex_);
  return stopped_;
}

void TcpMesh::check_not_stopped(const char* op) const {
  if (const std::string why = stop_reason(); !why.empty())
    throw CommunicationError(concat(op, ": ", why));
}

}  // namespace smoe
