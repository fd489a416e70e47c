#include "core/distributed/rendezvous_message.h"

#include <doctest/doctest.h>

#include <random>

#include "core/base/check.h"

using namespace smoe;

namespace {

std::string body_of(const std::string& frame) {
  return frame.substr(4);
}

}  // namespace

TEST_CASE("messages survive a round trip") {
  for (const RendezvousRequest& request : std::vector<RendezvousRequest>{
           {RendezvousOp::hello, "smoe-rendezvous-1", "job"},
           {RendezvousOp::set, "k", ""},
           {RendezvousOp::set, std::string(256, 'k'), std::string(kMaxRendezvousValue, '\0')},
           {RendezvousOp::get, std::string("\0\xff", 2)},
           {RendezvousOp::find, "a/b"},
           {RendezvousOp::add, "n", "-3"}})
    CHECK(parse_rendezvous_request(body_of(rendezvous_frame(request))) == request);
  for (const RendezvousReply& reply :
       std::vector<RendezvousReply>{{RendezvousStatus::ok, "value"},
                                    {RendezvousStatus::none, ""},
                                    {RendezvousStatus::refused, "why"}})
    CHECK(parse_rendezvous_reply(body_of(rendezvous_frame(reply))) == reply);
}

TEST_CASE("a request is encoded as the protocol specifies") {
  const std::string expected("\x0a\0\0\0\x02\x03\0keyvalu", 14);
  CHECK(rendezvous_frame(RendezvousRequest{RendezvousOp::set, "key", "valu"}) == expected);
}

TEST_CASE("overlong and malformed messages are refused") {
  const auto frame = [](std::size_t key, std::size_t value) {
    return rendezvous_frame(
        RendezvousRequest{RendezvousOp::set, std::string(key, 'k'), std::string(value, 'v')});
  };
  CHECK_THROWS_AS(frame(0, 1), UsageError);
  CHECK_THROWS_AS(frame(kMaxRendezvousKey + 1, 1), UsageError);
  CHECK_THROWS_AS(frame(1, kMaxRendezvousValue + 1), UsageError);
  const auto parse = [](std::string_view body) { parse_rendezvous_request(body); };
  CHECK_THROWS_AS(parse(""), UsageError);
  CHECK_THROWS_AS(parse(std::string("\x02\x01", 2)), UsageError);
  CHECK_THROWS_AS(parse(std::string("\x00\x01\x00k", 4)), UsageError);      // no such operation
  CHECK_THROWS_AS(parse(std::string("\x06\x01\x00k", 4)), UsageError);      // no such operation
  CHECK_THROWS_AS(parse(std::string("\x02\x00\x00value", 8)), UsageError);  // no key
  CHECK_THROWS_AS(parse(std::string("\x02\x02\x00k", 4)), UsageError);      // key beyond the end
  CHECK_THROWS_AS(parse(std::string("\x02\xff\xff", 3) + std::string(70'000, 'k')), UsageError);
  CHECK_THROWS_AS(parse_rendezvous_reply(""), UsageError);
  CHECK_THROWS_AS(parse_rendezvous_reply("\x03"), UsageError);
}

TEST_CASE("numbers must be valid to the last character") {
  CHECK(parse_rendezvous_number("-42") == -42);
  CHECK(parse_rendezvous_number("9223372036854775807") == INT64_MAX);
  for (const char* text : {"", "1 ", "+1", "0x1", "1.5", "9223372036854775808", "one"})
    CHECK_THROWS_AS(parse_rendezvous_number(text), UsageError);
}

TEST_CASE("bodies are reassembled from pieces of any size") {
  std::string stream;
  std::vector<std::string> bodies;
  for (const std::size_t size : {1, 2, 300, 7}) {
    const std::string frame = rendezvous_frame(
        RendezvousRequest{RendezvousOp::set, "key", std::string(size, char('a' + size % 26))});
    bodies.push_back(body_of(frame));
    stream += frame;
  }
  for (const std::size_t piece : {1, 3, 64, 4096}) {
    RendezvousFrames frames(kMaxRendezvousBody);
    std::vector<std::string> found;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      frames.add(std::string_view(stream).substr(at, piece));
      while (const auto body = frames.next()) found.push_back(*body);
    }
    CHECK(found == bodies);
    CHECK(frames.num_pending() == 0);
  }
}

TEST_CASE("a length of 0 or above the limit makes the stream unreadable") {
  for (const std::string_view head :
       {std::string_view("\0\0\0\0", 4), std::string_view("\x65\0\0\0", 4),
        std::string_view("\xff\xff\xff\xff", 4)}) {
    RendezvousFrames frames(100);
    frames.add(head);
    CHECK_THROWS_AS(frames.next(), UsageError);
  }
}

TEST_CASE("random bodies are parsed or refused") {
  std::mt19937_64 random(7);
  int read = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string body(random() % 40, '\0');
    for (char& c : body) c = static_cast<char>(random() % (i % 2 ? 256 : 8));
    try {
      const RendezvousRequest request = parse_rendezvous_request(body);
      CHECK(body_of(rendezvous_frame(request)) == body);
      ++read;
    } catch (const UsageError&) {
    }
  }
  CHECK(read > 100);
}
