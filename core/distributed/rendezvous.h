// Rendezvous: a small store of keys and values on one host, over which the ranks of a job find each
// other and agree on short facts before they have a communicator. One process serves it, all
// connect; what they say to each other stands in rendezvous_message.h.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/distributed/rendezvous_message.h"
#include "core/system/socket.h"

namespace smoe {

/// Serves a store from a thread of its own, which no signal interrupts. Whoever does not know the
/// job id is refused; garbage, silence and broken connections end the connection they come on and
/// touch nobody else.
class RendezvousServer {
 public:
  struct Options {
    std::string host = "127.0.0.1";  ///< to listen on; others than this machine's cannot connect
    int port = 0;                    ///< 0: a free one
    std::string job_id;              ///< at most 256 bytes
  };

  /// Listens when it returns. Throws: SystemError when the port is taken; UsageError.
  explicit RendezvousServer(const Options& options);
  /// Closes all connections.
  ~RendezvousServer();
  RendezvousServer(const RendezvousServer&) = delete;
  RendezvousServer& operator=(const RendezvousServer&) = delete;

  int port() const;
  /// The value of a key, for the process that serves. May be called from any thread.
  std::optional<std::string> find(const std::string& key) const;

 private:
  class Service;
  std::unique_ptr<Service> service_;
};

/// A connection to a served store, for one thread at a time. Every call is bounded by its deadline;
/// after one that failed the next call connects anew.
/// All throw: SystemError naming endpoint, key and deadline when the deadline passes or the server
/// is gone; UsageError for a wrong job id or what the limits of rendezvous_message.h refuse.
class RendezvousStore {
 public:
  struct Options {
    Endpoint endpoint;
    std::string job_id;
    std::string prefix = {};  ///< of all keys, so that attempts of one job do not meet
  };

  /// Connects, waiting for the server to come up until the deadline.
  RendezvousStore(Options options, const Deadline& deadline);

  void set(std::string_view key, std::string_view value, const Deadline& deadline);
  /// Waits until the key has a value.
  std::string get(std::string_view key, const Deadline& deadline);
  /// The value if the key has one now.
  std::optional<std::string> find(std::string_view key, const Deadline& deadline);
  /// Adds to the number under the key, 0 before the first, and returns the sum.
  std::int64_t add(std::string_view key, std::int64_t increment, const Deadline& deadline);

  /// The address of this machine by which it reaches the server.
  std::string local_host() const { return local_host_; }

 private:
  void connect(const Deadline& deadline);
  RendezvousReply ask(const RendezvousRequest& request, const Deadline& deadline);
  RendezvousReply exchange(const RendezvousRequest& request, const Deadline& deadline);
  std::string key_of(std::string_view key) const { return options_.prefix + std::string(key); }
  std::string name() const;

  Options options_;
  std::string local_host_;
  Socket socket_;
  RendezvousFrames frames_{kMaxRendezvousBody};
};

}  // namespace smoe
