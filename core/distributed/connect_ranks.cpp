#include "core/distributed/connect_ranks.h"

#include <poll.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <list>
#include <random>

#include "core/base/check.h"
#include "core/distributed/communicator.h"

namespace smoe {
namespace {

constexpr std::size_t kTokenBytes = 16, kHelloBytes = sizeof(std::uint32_t) + kTokenBytes;
// A connection is untrusted until it has sent its hello. Only so many of them are open at a time;
// further ones wait in the listen queue, and then connections are closed after a shorter time.
constexpr std::size_t kMaxUntrusted = 64;
constexpr double kHelloSeconds = 10, kCrowdedHelloSeconds = 1;
constexpr std::int64_t kTickMs = 100;  // how often these times are checked

/// What a rank publishes in the store: its token, then host:port.
struct Member {
  std::string token;
  std::string address;
};

std::string key_of(int rank) {
  return concat("tcp/", rank);
}

std::string random_token() {
  std::random_device source;
  std::string token(kTokenBytes, '\0');
  for (char& byte : token) byte = static_cast<char>(source());
  return token;
}

/// The first message of a connection: the rank that connects, and the token of the one that
/// listens, which replies with the other's token.
std::string hello_of(int rank, const Member& listening) {
  const auto number = static_cast<std::uint32_t>(rank);
  std::string hello(kHelloBytes, '\0');
  std::memcpy(hello.data(), &number, sizeof number);
  listening.token.copy(hello.data() + sizeof number, kTokenBytes);
  return hello;
}

class Connecting {
 public:
  Connecting(int rank, int world_size, RendezvousStore& store, const Deadline& deadline)
      : rank_(rank), deadline_(deadline), members_(world_size), sockets_(world_size) {
    const char* const interface = std::getenv("SMOE_SOCKET_IFNAME");
    const std::string host = interface ? address_of_interface(interface) : store.local_host();
    listener_ = Socket::listen(host, 0);
    members_[rank] = {random_token(), concat(host, ":", listener_.port())};
    store.set(key_of(rank), members_[rank].token + members_[rank].address, deadline);
    for (int other = 0; other < world_size; ++other) {
      if (other == rank) continue;
      const std::string published = store.get(key_of(other), deadline);
      members_[other] = {published.substr(0, kTokenBytes),
                         published.substr(std::min(published.size(), kTokenBytes))};
    }
  }

  std::vector<Socket> run() {
    // No rank waits here for another: connections stay in the listen queue until they are accepted.
    for (int other = 0; other < rank_; ++other) connect(other);
    accept_others();
    for (int other = 0; other < rank_; ++other) check_reply(other);
    return std::move(sockets_);
  }

 private:
  struct Guest {
    explicit Guest(Socket accepted) : socket(std::move(accepted)) {}
    Socket socket;
    std::string hello;
    bool is_done = false;  // a member or refused
    Deadline until = Deadline::in(kHelloSeconds),
             until_crowded = Deadline::in(kCrowdedHelloSeconds);
  };

  [[noreturn]] void fail(int other, const std::string& why) const {
    throw CommunicationError(concat("communicator: rank ", rank_, " of ", members_.size(),
                                    " cannot connect to rank ", other, ": ", why));
  }

  void connect(int other) {
    const Endpoint endpoint = parse_endpoint(members_[other].address, "address of a rank");
    try {
      sockets_[other] = Socket::connect(endpoint.host, endpoint.port, deadline_);
    } catch (const SystemError& error) {
      fail(other, error.what());
    }
    // An empty send buffer holds all of it.
    sockets_[other].send_some(hello_of(rank_, members_[other]));
  }

  void accept_others() {
    std::list<Guest> guests;
    std::vector<pollfd> polled;
    for (bool accepts = true; first_missing() >= 0;) {
      if (deadline_.has_passed())
        fail(first_missing(), concat("it did not connect within ", deadline_.total_s(), " s"));
      const bool is_crowded = guests.size() >= kMaxUntrusted;
      polled = {{accepts && !is_crowded ? listener_.descriptor() : -1, POLLIN, 0}};
      for (const Guest& guest : guests) polled.push_back({guest.socket.descriptor(), POLLIN, 0});
      ::poll(polled.data(), polled.size(),
             static_cast<int>(std::min(kTickMs, std::int64_t{deadline_.left().count()})));
      std::size_t i = 1;
      for (Guest& guest : guests)
        if (polled[i++].revents) read_hello(guest);
      guests.remove_if([&](const Guest& guest) {
        return guest.is_done || (is_crowded ? guest.until_crowded : guest.until).has_passed();
      });
      if (polled[0].revents) guests.emplace_back(listener_.accept());
      accepts = guests.empty() || guests.back().socket.is_open();  // else out of descriptors
      if (!accepts) guests.pop_back();
    }
  }

  /// The lowest rank above this one that has not connected; -1: none.
  int first_missing() const {
    for (std::size_t other = rank_ + 1; other < sockets_.size(); ++other)
      if (!sockets_[other].is_open()) return static_cast<int>(other);
    return -1;
  }

  void read_hello(Guest& guest) {
    char bytes[kHelloBytes];
    const auto [count, is_closed] =
        guest.socket.receive_some(bytes, kHelloBytes - guest.hello.size());
    guest.hello.append(bytes, count);
    guest.is_done = is_closed || guest.hello.size() == kHelloBytes;
    for (std::size_t other = rank_ + 1; other < sockets_.size(); ++other) {
      if (sockets_[other].is_open() ||
          guest.hello != hello_of(static_cast<int>(other), members_[rank_]))
        continue;
      guest.socket.send_some(members_[other].token);
      sockets_[other] = std::move(guest.socket);
      return;
    }
  }

  void check_reply(int other) {
    std::string reply(kTokenBytes, '\0');
    for (std::size_t at = 0; at < kTokenBytes;) {
      if (!sockets_[other].wait_readable(deadline_))
        fail(other, concat("it did not reply within ", deadline_.total_s(), " s"));
      const auto [count, is_closed] =
          sockets_[other].receive_some(reply.data() + at, kTokenBytes - at);
      if (is_closed) fail(other, "it closed the connection");
      at += count;
    }
    if (reply != members_[rank_].token)
      fail(other,
           concat("the process at ", members_[other].address, " does not belong to this job"));
  }

  int rank_;
  Deadline deadline_;
  Socket listener_;
  std::vector<Member> members_;
  std::vector<Socket> sockets_;
};

}  // namespace

std::vector<Socket> connect_ranks(int rank, int world_size, RendezvousStore& store,
                                  const Deadline& deadline) {
  return Connecting(rank, world_size, store, deadline).run();
}

}  // namespace smoe
