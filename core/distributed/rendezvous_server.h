// Rendezvous: a small key-value store on one host, through which the ranks of a job find each other
// and exchange short facts before they have a communicator. One process serves it, all connect; the
// protocol is in rendezvous_message.h, the client in rendezvous_store.h.
#pragma once
#include <memory>
#include <optional>
#include <string>

namespace smoe {

/// Serves the store in a thread of its own, with all signals blocked. Clients without the job id
/// are refused; malformed messages, silence and broken connections end their own connection only.
class RendezvousServer {
 public:
  struct Options {
    std::string host = "127.0.0.1";  ///< to listen on; the default admits this machine only
    int port = 0;                    ///< 0 chooses a free port
    std::string job_id;              ///< at most 256 bytes
  };

  /// Is listening on return. Throws: SystemError when the port is in use; UsageError.
  explicit RendezvousServer(const Options& options);
  /// Closes all connections.
  ~RendezvousServer();
  RendezvousServer(const RendezvousServer&) = delete;
  RendezvousServer& operator=(const RendezvousServer&) = delete;

  int port() const;
  /// The value of a key, for the serving process. May be called from any thread.
  std::optional<std::string> find(const std::string& key) const;

 private:
  class Service;
  std::unique_ptr<Service> service_;
};

}  // namespace smoe
