#include "core/distributed/rendezvous_store.h"

#include "core/base/check.h"

namespace smoe {

RendezvousStore::RendezvousStore(Options options, const Deadline& deadline)
    : options_(std::move(options)) {
  connect(deadline);
}

std::string RendezvousStore::name() const {
  return concat("rendezvous ", options_.endpoint.host, ":", options_.endpoint.port);
}

void RendezvousStore::connect(const Deadline& deadline) {
  frames_ = RendezvousFrames(kMaxRendezvousBody);
  socket_ = Socket::connect(options_.endpoint.host, options_.endpoint.port, deadline);
  local_host_ = socket_.local_host();
  const RendezvousReply reply =
      exchange({RendezvousOp::hello, std::string(kRendezvousProtocol), options_.job_id}, deadline);
  if (reply.status == RendezvousStatus::ok) return;
  socket_ = Socket();
  throw UsageError(concat(name(), ": ", reply.value));
}

RendezvousReply RendezvousStore::exchange(const RendezvousRequest& request,
                                          const Deadline& deadline) {
  const auto fail = [&](const char* what) {
    socket_ = Socket();  // a late reply must not be read as that of the next request
    throw SystemError(
        concat(name(), ": ", request.key, ": ", what, " within ", deadline.total_s(), " s"));
  };
  const std::string frame = rendezvous_frame(request);
  for (std::string_view rest = frame; !rest.empty();) {
    if (!socket_.wait_writable(deadline)) fail("cannot send");
    const Socket::Progress progress = socket_.send_some(rest);
    if (progress.is_closed) fail("the server closed the connection; no reply");
    rest.remove_prefix(progress.bytes);
  }
  char block[4096];
  for (;;) {
    if (const std::optional<std::string> body = frames_.next())
      return parse_rendezvous_reply(*body);
    if (!socket_.wait_readable(deadline)) fail("no reply");
    const Socket::Progress progress = socket_.receive_some(block, sizeof block);
    if (progress.is_closed) fail("the server closed the connection; no reply");
    frames_.add({block, progress.bytes});
  }
}

RendezvousReply RendezvousStore::ask(const RendezvousRequest& request, const Deadline& deadline) {
  if (!socket_.is_open()) connect(deadline);
  RendezvousReply reply = exchange(request, deadline);
  SMOE_CHECK(reply.status != RendezvousStatus::refused, name(), ": ", request.key, ": ",
             reply.value);
  return reply;
}

void RendezvousStore::set(std::string_view key, std::string_view value, const Deadline& deadline) {
  ask({RendezvousOp::set, key_of(key), std::string(value)}, deadline);
}

std::string RendezvousStore::get(std::string_view key, const Deadline& deadline) {
  return ask({RendezvousOp::get, key_of(key)}, deadline).value;
}

std::optional<std::string> RendezvousStore::find(std::string_view key, const Deadline& deadline) {
  RendezvousReply reply = ask({RendezvousOp::find, key_of(key)}, deadline);
  if (reply.status == RendezvousStatus::none) return std::nullopt;
  return std::move(reply.value);
}

std::int64_t RendezvousStore::add(std::string_view key, std::int64_t increment,
                                  const Deadline& deadline) {
  return parse_rendezvous_number(
      ask({RendezvousOp::add, key_of(key), std::to_string(increment)}, deadline).value);
}

}  // namespace smoe
