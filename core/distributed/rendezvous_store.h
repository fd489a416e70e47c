// RendezvousStore: a client of the store that rendezvous_server.h serves.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/distributed/rendezvous_message.h"
#include "core/system/deadline.h"
#include "core/system/socket.h"

namespace smoe {

/// A client connection, for one thread at a time. Every call is bounded by its deadline; after a
/// failed call the next one reconnects.
/// All throw: SystemError naming endpoint, key and deadline when the deadline passes or the server
/// is gone; UsageError for a wrong job id or a request beyond the limits in rendezvous_message.h.
class RendezvousStore {
 public:
  struct Options {
    Endpoint endpoint;
    std::string job_id;
    std::string prefix = {};  ///< of all keys, to keep the attempts of one job apart
  };

  /// Connects, waiting until the deadline for the server to start.
  RendezvousStore(Options options, const Deadline& deadline);
  /// Another connection to the same store, for another thread.
  RendezvousStore connect_again(const Deadline& deadline) const {
    return RendezvousStore(options_, deadline);
  }

  void set(std::string_view key, std::string_view value, const Deadline& deadline);
  /// Waits until the key has a value.
  std::string get(std::string_view key, const Deadline& deadline);
  /// The value, if the key has one now.
  std::optional<std::string> find(std::string_view key, const Deadline& deadline);
  /// Adds to the number stored under the key, initially 0, and returns the result.
  std::int64_t add(std::string_view key, std::int64_t increment, const Deadline& deadline);

  /// The address of this machine on the route to the server.
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
