#include "core/distributed/rendezvous_server.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <iterator>
#include <thread>
#include <vector>

#include "core/base/check.h"
#include "core/distributed/rendezvous_store.h"

using namespace smoe;
using namespace std::chrono_literals;

namespace {

const Deadline::Clock::duration kSoon = 2s;

Deadline soon() {
  return Deadline::in(5);
}

RendezvousStore store_of(const RendezvousServer& server, const std::string& job_id = "job",
                         const std::string& prefix = "") {
  return RendezvousStore({{"127.0.0.1", server.port()}, job_id, prefix}, soon());
}

Socket stranger_to(const RendezvousServer& server) {
  return Socket::connect("localhost", server.port(), soon());
}

/// Whether the server closes the connection within `seconds`.
bool is_dropped(const Socket& socket, double seconds) {
  const Deadline deadline = Deadline::in(seconds);
  char block[256];
  while (socket.wait_readable(deadline))
    if (socket.receive_some(block, sizeof block).is_closed) return true;
  return false;
}

}  // namespace

TEST_CASE("a value set by one client is visible to others with the same prefix") {
  const RendezvousServer server({.job_id = "job"});
  RendezvousStore a = store_of(server), b = store_of(server), other = store_of(server, "job", "2/");
  a.set("key", std::string("value\0", 6), soon());
  CHECK(b.get("key", soon()) == std::string("value\0", 6));
  CHECK(!other.find("key", soon()));
  other.set("key", "", soon());
  CHECK(other.find("key", soon()) == "");
  CHECK(server.find("2/key") == "");
  CHECK(!server.find("3/key"));
  a.set("key", "changed", soon());
  CHECK(b.find("key", soon()) == "changed");
}

TEST_CASE("get waits for the value until its deadline") {
  const RendezvousServer server({.job_id = "job"});
  RendezvousStore a = store_of(server), b = store_of(server);
  std::string got;
  std::thread waiting([&] { got = a.get("late", soon()); });
  std::this_thread::sleep_for(20ms);
  b.set("late", "here", soon());
  waiting.join();
  CHECK(got == "here");

  const auto start = Deadline::Clock::now();
  CHECK_THROWS_WITH_AS(a.get("never", Deadline::in(0.05)),
                       doctest::Contains("never: no reply within 0.05 s"), SystemError);
  CHECK(Deadline::Clock::now() - start < kSoon);
  b.set("never", "too late", soon());
  CHECK(a.get("late", soon()) == "here");  // not the late reply to the request before
}

TEST_CASE("a value of maximum size is stored; a larger one is refused") {
  const RendezvousServer server({.job_id = "job"});
  RendezvousStore a = store_of(server), b = store_of(server);
  const std::string large(kMaxRendezvousValue, 'x');
  a.set("large", large, soon());
  CHECK(b.get("large", soon()) == large);
  CHECK_THROWS_AS(a.set("large", large + "x", soon()), UsageError);
  CHECK(b.get("large", soon()) == large);
}

TEST_CASE("concurrent additions are exact") {
  const RendezvousServer server({.job_id = "job"});
  std::vector<std::thread> adders;
  for (int t = 0; t < 8; ++t)
    adders.emplace_back([&] {
      RendezvousStore store = store_of(server);
      for (int i = 0; i < 100; ++i) store.add("count", 1, soon());
    });
  for (std::thread& adder : adders) adder.join();
  RendezvousStore store = store_of(server);
  CHECK(store.add("count", -1, soon()) == 799);
  CHECK(server.find("count") == "799");
  store.set("text", "seven", soon());
  CHECK_THROWS_WITH_AS(store.add("text", 1, soon()), doctest::Contains("must be a 64-bit number"),
                       UsageError);
  CHECK(store.add("count", 1, soon()) == 800);
}

TEST_CASE("a client of another job is refused with the reason") {
  const RendezvousServer server({.job_id = "job"});
  CHECK_THROWS_WITH_AS(store_of(server, "other"),
                       doctest::Contains("this is the rendezvous of another job"), UsageError);
  CHECK_THROWS_AS(RendezvousServer({.job_id = std::string(300, 'x')}), UsageError);
}

TEST_CASE("errors name an unreachable server, a port in use and an invalid endpoint") {
  int port = 0;
  {
    const RendezvousServer server({.job_id = "job"});
    port = server.port();
    const auto second = [&] { RendezvousServer({.port = port, .job_id = "job"}); };
    CHECK_THROWS_WITH_AS(second(), doctest::Contains("Address already in use"), SystemError);
  }
  const auto connect = [&] { RendezvousStore({{"127.0.0.1", port}, "job"}, Deadline::in(0.05)); };
  CHECK_THROWS_WITH_AS(connect(), doctest::Contains("no connection to 127.0.0.1:"), SystemError);
  CHECK(parse_endpoint("host.name:29500", "x").host == "host.name");
  CHECK(parse_endpoint("host.name:29500", "x").port == 29500);
  for (const char* text : {"", "host", "host:", ":1", "host:65536", "host:-1", "host:1x"})
    CHECK_THROWS_AS(parse_endpoint(text, "MASTER_ADDR"), UsageError);
}

TEST_CASE("a client may start before the server") {
  int port = 0;
  { port = RendezvousServer({.job_id = "job"}).port(); }
  std::string got;
  std::thread early([&] {
    got = RendezvousStore({{"127.0.0.1", port}, "job"}, soon()).get("key", soon());
  });
  std::this_thread::sleep_for(20ms);
  const RendezvousServer server({.port = port, .job_id = "job"});
  store_of(server).set("key", "value", soon());
  early.join();
  CHECK(got == "value");
}

TEST_CASE("malformed and partial messages, silence and disconnects affect only their connection") {
  const RendezvousServer server({.job_id = "job"});
  RendezvousStore store = store_of(server);
  store.set("key", "value", soon());

  const Socket garbage = stranger_to(server), huge = stranger_to(server),
               rude = stranger_to(server), silent = stranger_to(server);
  garbage.send_some("GET / HTTP/1.1\r\n\r\n");
  huge.send_some(std::string_view("\xff\xff\xff\x7f", 4));
  rude.send_some(rendezvous_frame(RendezvousRequest{RendezvousOp::get, "key"}));  // without hello
  CHECK(is_dropped(garbage, 2));
  CHECK(is_dropped(huge, 2));
  CHECK(is_dropped(rude, 2));
  for (int i = 0; i < 100; ++i) {
    const Socket half = stranger_to(server);
    half.send_some(std::string_view("\x10\0\0\0\x01", 1 + i % 5));
  }
  CHECK(store.get("key", soon()) == "value");
  CHECK(!is_dropped(silent, 0.05));
}

TEST_CASE("connections without the job id use few descriptors and do not keep clients out") {
  const RendezvousServer server({.job_id = "job"});
  const auto num_descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  };
  const auto before = num_descriptors();
  std::vector<Socket> silent;
  for (int i = 0; i < 200; ++i)
    silent.push_back(Socket::connect("127.0.0.1", server.port(), soon()));
  std::this_thread::sleep_for(200ms);
  CHECK(num_descriptors() - before - 200 <= 64);
  RendezvousStore store({{"127.0.0.1", server.port()}, "job"}, Deadline::in(20));
  store.set("key", "value", soon());
  CHECK(store.get("key", soon()) == "value");
}

TEST_CASE("a client that does not read its replies does not delay others") {
  const RendezvousServer server({.job_id = "job"});
  RendezvousStore store = store_of(server);
  store.set("large", std::string(kMaxRendezvousValue, 'x'), soon());
  const Socket deaf = stranger_to(server);
  deaf.send_some(rendezvous_frame(
      RendezvousRequest{RendezvousOp::hello, std::string(kRendezvousProtocol), "job"}));
  const std::string find = rendezvous_frame(RendezvousRequest{RendezvousOp::find, "large"});
  std::size_t sent = 0;
  for (int i = 0; i < 20'000; ++i) sent += deaf.send_some(find).bytes;
  CHECK(sent > 0);
  CHECK(store.find("large", soon())->size() == kMaxRendezvousValue);
}

TEST_CASE("waiting clients get an error when the server stops") {
  auto server = std::make_unique<RendezvousServer>(RendezvousServer::Options{.job_id = "job"});
  RendezvousStore store = store_of(*server);
  std::string message;
  std::thread waiting([&] {
    try {
      store.get("never", soon());
    } catch (const SystemError& error) {
      message = error.what();
    }
  });
  std::this_thread::sleep_for(20ms);
  const auto start = Deadline::Clock::now();
  server.reset();
  waiting.join();
  CHECK(Deadline::Clock::now() - start < kSoon);
  CHECK(message.find("the server closed the connection") != std::string::npos);
}
