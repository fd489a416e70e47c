#include "core/system/socket.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <memory>
#include <system_error>
#include <thread>

#include "core/base/check.h"

namespace smoe {
namespace {

constexpr int kBacklog = 1024;

std::string reason(int error) {
  return std::generic_category().message(error);
}

std::string address_text(const std::string& host, int port) {
  return concat(host, ":", port);
}

std::string address_text(const in_addr& address) {
  char text[INET_ADDRSTRLEN] = {};
  ::inet_ntop(AF_INET, &address, text, sizeof text);
  return text;
}

sockaddr_in local_address(const Socket& socket) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket.descriptor(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw SystemError(concat("getsockname: ", reason(errno)));
  return address;
}

sockaddr_in resolve(const std::string& host, int port) {
  SMOE_CHECK(port >= 0 && port <= 65535, "socket: port must be 0 to 65535; got ", port);
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (code != 0)
    throw SystemError(concat("socket: ", host, ": no IPv4 address: ", ::gai_strerror(code)));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, ::freeaddrinfo);
  sockaddr_in address = *reinterpret_cast<const sockaddr_in*>(found->ai_addr);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  return address;
}

Socket new_socket() {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor < 0) throw SystemError(concat("socket: ", reason(errno)));
  return Socket(descriptor);
}

void set_option(const Socket& socket, int level, int option) {
  const int on = 1;
  ::setsockopt(socket.descriptor(), level, option, &on, sizeof on);
}

bool would_wait(int error) {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

/// Makes one attempt; returns errno, or 0 when connected.
int try_connect(const Socket& socket, const sockaddr_in& address, const Deadline& deadline) {
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  if (::connect(socket.descriptor(), generic, sizeof address) == 0) return 0;
  if (errno != EINPROGRESS && errno != EINTR) return errno;
  if (!socket.wait_writable(deadline)) return ETIMEDOUT;
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(socket.descriptor(), SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

/// Whether the socket is connected to itself: connecting to a local port without a listener may
/// choose that same port as the source.
bool reached_itself(const Socket& socket, const sockaddr_in& address) {
  const sockaddr_in own = local_address(socket);
  return own.sin_port == address.sin_port && own.sin_addr.s_addr == address.sin_addr.s_addr;
}

}  // namespace

Socket Socket::listen(const std::string& host, int port) {
  const sockaddr_in address = resolve(host, port);
  Socket socket = new_socket();
  set_option(socket, SOL_SOCKET, SO_REUSEADDR);  // the port may have connections in TIME_WAIT
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  if (::bind(socket.descriptor(), generic, sizeof address) != 0 ||
      ::listen(socket.descriptor(), kBacklog) != 0)
    throw SystemError(
        concat("socket: cannot listen on ", address_text(host, port), ": ", reason(errno)));
  return socket;
}

Socket Socket::connect(const std::string& host, int port, const Deadline& deadline) {
  using namespace std::chrono_literals;
  const sockaddr_in address = resolve(host, port);
  for (auto pause = 1ms;; pause = std::min<std::chrono::milliseconds>(2 * pause, 200ms)) {
    Socket socket = new_socket();
    int error = try_connect(socket, address, deadline);
    if (error == 0 && reached_itself(socket, address)) error = ECONNREFUSED;
    if (error == 0) {
      set_option(socket, IPPROTO_TCP, TCP_NODELAY);  // messages are short requests and replies
      return socket;
    }
    if (deadline.has_passed())
      throw SystemError(concat("socket: no connection to ", address_text(host, port), " within ",
                               deadline.total_s(), " s: ", reason(error)));
    std::this_thread::sleep_for(std::min(pause, deadline.left()));
  }
}

int Socket::port() const {
  return ntohs(local_address(*this).sin_port);
}

std::string Socket::local_host() const {
  return address_text(local_address(*this).sin_addr);
}

Socket Socket::accept() const {
  Socket socket(::accept4(descriptor(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket.is_open()) set_option(socket, IPPROTO_TCP, TCP_NODELAY);
  return socket;
}

Socket::Progress Socket::send_some(std::string_view bytes) const {
  const ssize_t sent = ::send(descriptor(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (sent >= 0) return {static_cast<std::size_t>(sent), false};
  return {0, !would_wait(errno)};
}

Socket::Progress Socket::receive_some(char* target, std::size_t bytes) const {
  const ssize_t received = ::recv(descriptor(), target, bytes, 0);
  if (received > 0) return {static_cast<std::size_t>(received), false};
  return {0, received == 0 || !would_wait(errno)};
}

bool Socket::wait(short events, const Deadline& deadline) const {
  for (;;) {
    pollfd entry{descriptor(), events, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(deadline.left().count()));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) throw SystemError(concat("poll: ", reason(errno)));
    if (deadline.has_passed()) return false;
  }
}

bool Socket::wait_readable(const Deadline& deadline) const {
  return wait(POLLIN, deadline);
}

bool Socket::wait_writable(const Deadline& deadline) const {
  return wait(POLLOUT, deadline);
}

std::string address_of_interface(const std::string& name) {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) throw SystemError(concat("getifaddrs: ", reason(errno)));
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(all, ::freeifaddrs);
  for (const ifaddrs* entry = all; entry; entry = entry->ifa_next)
    if (name == entry->ifa_name && entry->ifa_addr && entry->ifa_addr->sa_family == AF_INET)
      return address_text(reinterpret_cast<const sockaddr_in*>(entry->ifa_addr)->sin_addr);
  throw UsageError(concat("socket: there is no interface ", name, " with an IPv4 address"));
}

Endpoint parse_endpoint(const std::string& text, const char* what) {
  const std::size_t colon = text.rfind(':');
  Endpoint endpoint;
  bool is_valid = colon != std::string::npos && colon > 0;
  if (is_valid) {
    endpoint.host = text.substr(0, colon);
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + colon + 1, end, endpoint.port);
    is_valid = error == std::errc() && stop == end && endpoint.port >= 0 && endpoint.port <= 65535;
  }
  SMOE_CHECK(is_valid, what, ": must be host:port; got '", text, "'");
  return endpoint;
}

}  // namespace smoe
