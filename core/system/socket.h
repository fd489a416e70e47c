// TCP sockets with a deadline on every call. Descriptors are closed on exec, so that children do
// not keep a port or a connection alive.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "core/system/deadline.h"
#include "core/system/descriptor.h"

namespace smoe {

/// A connected or listening socket, closed by the destructor; non-blocking underneath.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int descriptor) : descriptor_(descriptor) {}

  /// Listens on `host` (an IPv4 address or a name) and `port`; 0 takes a free one.
  /// Throws: SystemError naming host, port and reason; UsageError for a port out of range.
  static Socket listen(const std::string& host, int port);
  /// Connects, trying again until the deadline while nobody listens there yet.
  /// Throws: SystemError naming host, port and reason.
  static Socket connect(const std::string& host, int port, const Deadline& deadline);

  bool is_open() const { return descriptor_.is_open(); }
  int descriptor() const { return descriptor_.number(); }
  /// The port and the address ("127.0.0.1") that this end has.
  int port() const;
  std::string local_host() const;

  /// The next waiting connection; a closed socket when there is none or it is gone already.
  Socket accept() const;

  /// What a call without waiting came to.
  struct Progress {
    std::size_t bytes = 0;
    bool is_closed = false;  ///< the other end closed, or the connection failed
  };
  /// Sends or receives what goes without waiting.
  Progress send_some(std::string_view bytes) const;
  Progress receive_some(char* target, std::size_t bytes) const;

  /// Waits until there is something to receive (or the end of the connection), or room to send.
  /// Returns false when the deadline passes first.
  bool wait_readable(const Deadline& deadline) const;
  bool wait_writable(const Deadline& deadline) const;

 private:
  bool wait(short events, const Deadline& deadline) const;
  Descriptor descriptor_;
};

struct Endpoint {
  std::string host;
  int port = 0;
};
/// Reads "host:port". Throws: UsageError, naming `what`, unless it is that.
Endpoint parse_endpoint(const std::string& text, const char* what);

}  // namespace smoe
