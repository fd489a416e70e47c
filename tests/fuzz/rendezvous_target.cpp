// Untrusted peers of a rendezvous: messages, and whole connections to a server.
#include "core/distributed/rendezvous_server.h"
#include "core/distributed/rendezvous_store.h"
#include "tests/fuzz/target.h"

namespace smoe::fuzz {
namespace {

constexpr const char* kJob = "job";

std::string requests() {
  const std::string hello(kRendezvousProtocol);
  std::string stream = rendezvous_frame(RendezvousRequest{RendezvousOp::hello, hello, kJob});
  for (const auto& [op, key, value] :
       std::initializer_list<RendezvousRequest>{{RendezvousOp::set, "a", "value"},
                                                {RendezvousOp::add, "n", "5"},
                                                {RendezvousOp::add, "n", "-9223372036854775808"},
                                                {RendezvousOp::find, "b"},
                                                {RendezvousOp::get, "a"},
                                                {RendezvousOp::set, "empty", ""},
                                                {RendezvousOp::add, "a", "1"}})
    stream += rendezvous_frame(RendezvousRequest{op, key, value});
  return stream;
}

std::string replies() {
  return rendezvous_frame(RendezvousReply{RendezvousStatus::ok, "5"}) +
         rendezvous_frame(RendezvousReply{RendezvousStatus::none}) +
         rendezvous_frame(RendezvousReply{RendezvousStatus::refused, "a reason"});
}

// Parses `body`; an accepted message must serialize to the same bytes.
template <class Parse>
bool is_read_back(std::string_view body, Parse parse) {
  try {
    const std::string frame = rendezvous_frame(parse(body));
    require(frame.substr(4) == body, "serializes to other bytes");
    return true;
  } catch (const UsageError&) {
    return false;
  }
}

void read(const std::string& input) {
  RendezvousFrames frames(kMaxRendezvousHello);
  const std::size_t piece = input.empty() ? 1 : 1 + static_cast<unsigned char>(input.back());
  for (std::size_t at = 0; at < input.size(); at += piece) {
    frames.add(std::string_view(input).substr(at, piece));
    while (const std::optional<std::string> body = frames.next()) {
      require(!body->empty() && body->size() <= kMaxRendezvousHello, "a body of invalid size");
      const bool is_request = is_read_back(*body, parse_rendezvous_request);
      const bool is_reply = is_read_back(*body, parse_rendezvous_reply);
      SMOE_CHECK(is_request || is_reply, "rendezvous: no message");
      try {
        const std::int64_t number = parse_rendezvous_number(body->substr(1));
        require(number == std::stoll(body->substr(1)), "another number");
      } catch (const UsageError&) {
      }
    }
  }
}

std::vector<std::string> words(const std::string& canary) {
  return {std::string(kRendezvousProtocol),
          kJob,
          std::string("\0\0\0\0", 4),
          "\xff\xff\xff\xff",
          std::string("\1\0\0\0", 4),
          std::string("\2\1\0", 3),
          std::string("\4\1\0n", 4),
          rendezvous_frame(RendezvousRequest{RendezvousOp::add, "n", "1"}),
          rendezvous_frame(RendezvousRequest{RendezvousOp::get, "never"}),
          rendezvous_frame(RendezvousRequest{RendezvousOp::get, "a"}),
          requests(),
          canary};
}

// A server with the lifetime of the fuzzer, and a member of its job.
struct Served {
  RendezvousServer server{{.job_id = kJob}};
  RendezvousStore member{
      {.endpoint = {"127.0.0.1", server.port()}, .job_id = kJob, .prefix = "own/"},
      Deadline::in(10)};

  void read(const std::string& input) {
    const Socket stranger = Socket::connect("127.0.0.1", server.port(), Deadline::in(10));
    std::string_view rest = input;
    char replies[4096];
    while (!rest.empty()) {
      const Socket::Progress sent = stranger.send_some(rest);
      rest.remove_prefix(sent.bytes);
      if (sent.is_closed || stranger.receive_some(replies, sizeof replies).is_closed) break;
      if (sent.bytes == 0)
        break;  // the server waits for a read, or its buffers are full: disconnect
    }
    // The server still serves other peers.
    const std::int64_t sum = member.add("count", 1, Deadline::in(5));
    require(sum == ++num_reads, "another sum");
  }
  std::int64_t num_reads = 0;
};

}  // namespace

Target rendezvous_target(const Playground& playground) {
  Target target;
  target.seeds = {requests(), replies(), "GET / HTTP/1.1\r\n\r\n", ""};
  target.dictionary = words(playground.canary);
  target.read = read;
  return target;
}

Target rendezvous_server_target(const Playground& playground) {
  Target target;
  target.seeds = {requests(), requests() + requests(), replies(), "GET / HTTP/1.1\r\n\r\n", ""};
  target.dictionary = words(playground.canary);
  target.read = [served = std::make_shared<Served>()](const std::string& input) {
    served->read(input);
  };
  return target;
}

}  // namespace smoe::fuzz
