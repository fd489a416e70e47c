// TCP sockets with a deadline on every blocking call. Descriptors are close-on-exec, so that
// children do not keep a port or a connection open.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "core/system/deadline.h"
#include "core/system/descriptor.h"

namespace smoe {

/// A connected or listening socket in non-blocking mode; closed by the destructor.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int descriptor) : descriptor_(descriptor) {}

  /// Listens on `host` (an IPv4 address or a name) and `port`; 0 chooses a free port.
  /// Throws: SystemError naming host, port and reason; UsageError for a port out of range.
  static Socket listen(const std::string& host, int port);
  /// Connects, retrying until the deadline while the server is not listening yet.
  /// Throws: SystemError naming host, port and reason.
  static Socket connect(const std::string& host, int port, const Deadline& deadline);

  bool is_open() const { return descriptor_.is_open(); }
  int descriptor() const { return descriptor_.number(); }
  /// The local port and address ("127.0.0.1").
  int port() const;
  std::string local_host() const;

  /// The next pending connection; a closed socket when there is none or it has been aborted.
  Socket accept() const;

  /// Result of a non-blocking transfer.
  struct Progress {
    std::size_t bytes = 0;
    bool is_closed = false;  ///< the peer closed, or the connection failed
  };
  /// Sends or receives as much as possible without blocking.
  Progress send_some(std::string_view bytes) const;
  Progress receive_some(char* target, std::size_t bytes) const;

  /// Waits until data (or the end of the connection) can be received, or data can be sent. Returns
  /// false when the deadline passes first.
  bool wait_readable(const Deadline& deadline) const;
  bool wait_writable(const Deadline& deadline) const;

 private:
  bool wait(short events, const Deadline& deadline) const;
  Descriptor descriptor_;
};

/// The IPv4 address of a network interface ("eth0"). Throws: UsageError when there is none.
std::string address_of_interface(const std::string& name);

struct Endpoint {
  std::string host;
  int port = 0;
};
/// Parses "host:port". Throws: UsageError naming `what` for anything else.
Endpoint parse_endpoint(const std::string& text, const char* what);

}  // namespace smoe
