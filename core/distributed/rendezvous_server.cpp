#include "core/distributed/rendezvous_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <list>
#include <mutex>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/base/check.h"
#include "core/distributed/rendezvous_message.h"
#include "core/system/block_signals.h"
#include "core/system/deadline.h"
#include "core/system/socket.h"

namespace smoe {
namespace {

constexpr double kHelloSeconds = 10;  // time limit for a new connection to send the job id
// A new connection is untrusted until it has sent the job id. Only so many of them are open at a
// time, so that they cannot use up the descriptors of this process; further ones wait in the listen
// queue, and when the limit is reached, connections are closed after a shorter time.
constexpr std::size_t kMaxUntrusted = 64;
constexpr double kCrowdedHelloSeconds = 1;
constexpr std::size_t kMaxConnections = 4096;
constexpr std::size_t kMaxKeys = std::size_t{1} << 16;
constexpr std::size_t kMaxBytes = std::size_t{256} << 20;  // of all keys and values
constexpr std::size_t kReadBytes = std::size_t{64} << 10;
constexpr int kTickMs = 500;  // how often the hello deadlines are checked

/// The keys and values, with a limit on both.
class Table {
 public:
  std::optional<std::string> find(const std::string& key) const {
    const std::lock_guard lock(mutex_);
    const auto entry = values_.find(key);
    return entry == values_.end() ? std::nullopt : std::optional(entry->second);
  }
  void set(const std::string& key, std::string value) {
    const std::lock_guard lock(mutex_);
    store(key, std::move(value));
  }
  std::string add(const std::string& key, std::int64_t increment) {
    const std::lock_guard lock(mutex_);
    const auto entry = values_.find(key);
    std::int64_t sum = entry == values_.end() ? 0 : parse_rendezvous_number(entry->second);
    SMOE_CHECK(!__builtin_add_overflow(sum, increment, &sum),
               "rendezvous: add: the sum must fit in 64 bits");
    store(key, std::to_string(sum));
    return std::to_string(sum);
  }

 private:
  void store(const std::string& key, std::string value) {
    const auto entry = values_.find(key);
    const bool is_new = entry == values_.end();
    const std::size_t old_bytes = is_new ? 0 : key.size() + entry->second.size();
    const std::size_t bytes = bytes_ - old_bytes + key.size() + value.size();
    SMOE_CHECK((!is_new || values_.size() < kMaxKeys) && bytes <= kMaxBytes,
               "rendezvous: the store must have at most ", kMaxKeys, " keys and ", kMaxBytes,
               " bytes; it is full");
    values_[key] = std::move(value);
    bytes_ = bytes;
  }

  mutable std::mutex mutex_;
  std::unordered_map<std::string, std::string> values_;
  std::size_t bytes_ = 0;
};

struct Connection {
  explicit Connection(Socket accepted) : socket(std::move(accepted)) {}

  Socket socket;
  RendezvousFrames frames{kMaxRendezvousHello};
  std::string output;  // rest of the reply being sent; requests are not read until it is empty
  std::optional<std::string> awaited_key;
  bool is_member = false;  // has sent the job id
  bool is_ending = false;  // is closed when its output has been sent
  bool is_dead = false;
  Deadline hello_by = Deadline::in(kHelloSeconds);
  Deadline crowded_hello_by = Deadline::in(kCrowdedHelloSeconds);

  void reply(RendezvousStatus status, std::string value = {}) {
    output += rendezvous_frame(RendezvousReply{status, std::move(value)});
  }
};

}  // namespace

class RendezvousServer::Service {
 public:
  explicit Service(const Options& options)
      : job_id_(options.job_id), listener_(Socket::listen(options.host, options.port)) {
    wake_ = Socket(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake_.is_open())
      throw SystemError(concat("eventfd: ", std::generic_category().message(errno)));
    const BlockSignals blocked;
    thread_ = std::thread([this] { run(); });
  }
  ~Service() {
    const std::uint64_t one = 1;
    while (::write(wake_.descriptor(), &one, sizeof one) < 0 && errno == EINTR) {
    }
    thread_.join();
  }

  int port() const { return listener_.port(); }
  std::optional<std::string> find(const std::string& key) const { return table_.find(key); }

 private:
  void run() {
    std::vector<pollfd> polled;
    std::vector<char> block(kReadBytes);
    for (bool accepts = true;;) {
      const bool is_crowded = num_untrusted() >= kMaxUntrusted;
      const bool has_room = !is_crowded && connections_.size() < kMaxConnections;
      polled = {{wake_.descriptor(), POLLIN, 0},
                {accepts && has_room ? listener_.descriptor() : -1, POLLIN, 0}};
      for (const Connection& c : connections_)
        polled.push_back(
            {c.socket.descriptor(), static_cast<short>(c.output.empty() ? POLLIN : POLLOUT), 0});
      ::poll(polled.data(), polled.size(), connections_.empty() && accepts ? -1 : kTickMs);
      if (polled[0].revents) return;
      std::size_t i = 2;
      for (Connection& c : connections_)
        if (polled[i++].revents) serve(c, block);
      answer_waiting();
      connections_.remove_if([&](const Connection& c) {
        return c.is_dead || (c.is_ending && c.output.empty()) ||
               (!c.is_member && (is_crowded ? c.crowded_hello_by : c.hello_by).has_passed());
      });
      accepts = !polled[1].revents || accept();
    }
  }

  std::size_t num_untrusted() const {
    return static_cast<std::size_t>(
        std::count_if(connections_.begin(), connections_.end(),
                      [](const Connection& c) { return !c.is_member; }));
  }

  /// Returns false when no descriptor is left for the pending connection; there may be one later.
  bool accept() {
    Socket socket = listener_.accept();
    if (!socket.is_open()) return false;
    connections_.emplace_back(std::move(socket));
    return true;
  }

  void serve(Connection& c, std::vector<char>& block) {
    try {
      exchange(c, block);
    } catch (const std::exception&) {  // invalid requests, or no memory for them
      c.is_dead = true;
    }
  }

  void exchange(Connection& c, std::vector<char>& block) {
    if (!c.output.empty()) {
      flush(c);
      return process(c);
    }
    const Socket::Progress progress = c.socket.receive_some(block.data(), block.size());
    c.is_dead |= progress.is_closed;
    c.frames.add({block.data(), progress.bytes});
    process(c);
  }

  /// Replies to the received requests one at a time: no request is processed until the client has
  /// read the reply to the one before.
  void process(Connection& c) {
    while (!c.is_dead && !c.is_ending && c.output.empty() && !c.awaited_key) {
      const std::optional<std::string> body = c.frames.next();
      if (!body) return;
      const RendezvousRequest request = parse_rendezvous_request(*body);
      if (c.is_member)
        answer(c, request);
      else
        greet(c, request);
      flush(c);
    }
    // A client must not send while it waits for a reply.
    c.is_dead |= c.awaited_key && c.frames.num_pending() > 0;
  }

  void greet(Connection& c, const RendezvousRequest& request) {
    const bool is_hello = request.op == RendezvousOp::hello && request.key == kRendezvousProtocol;
    SMOE_CHECK(is_hello, "rendezvous: a connection must begin with hello");
    if (request.value == job_id_) {
      c.is_member = true;
      c.frames.set_max_body(kMaxRendezvousBody);
      c.reply(RendezvousStatus::ok);
      return;
    }
    c.reply(RendezvousStatus::refused, "this is the rendezvous of another job");
    c.is_ending = true;
  }

  void answer(Connection& c, const RendezvousRequest& request) {
    try {
      switch (request.op) {
        case RendezvousOp::set:
          table_.set(request.key, request.value);
          return c.reply(RendezvousStatus::ok);
        case RendezvousOp::add:
          return c.reply(RendezvousStatus::ok,
                         table_.add(request.key, parse_rendezvous_number(request.value)));
        case RendezvousOp::find: {
          const std::optional<std::string> value = table_.find(request.key);
          return c.reply(value ? RendezvousStatus::ok : RendezvousStatus::none, value.value_or(""));
        }
        case RendezvousOp::get:
          c.awaited_key =
              request.key;  // replied to by answer_waiting, immediately if it has a value
          return;
        case RendezvousOp::hello:
          throw UsageError("rendezvous: hello must be sent only once");
      }
    } catch (const UsageError& error) {
      c.reply(RendezvousStatus::refused, error.what());
    }
  }

  void answer_waiting() {
    for (Connection& c : connections_) {
      if (!c.awaited_key) continue;
      std::optional<std::string> value = table_.find(*c.awaited_key);
      if (!value) continue;
      c.awaited_key.reset();
      c.reply(RendezvousStatus::ok, std::move(*value));
      flush(c);
    }
  }

  void flush(Connection& c) {
    while (!c.output.empty()) {
      const Socket::Progress progress = c.socket.send_some(c.output);
      c.is_dead |= progress.is_closed;
      if (progress.bytes == 0) return;
      c.output.erase(0, progress.bytes);
    }
  }

  std::string job_id_;
  Socket listener_;
  Socket wake_;
  Table table_;
  std::list<Connection> connections_;
  std::thread thread_;
};

RendezvousServer::RendezvousServer(const Options& options) {
  SMOE_CHECK(options.job_id.size() <= kMaxRendezvousKey, "rendezvous: a job id must have at most ",
             kMaxRendezvousKey, " bytes; got ", options.job_id.size());
  service_ = std::make_unique<Service>(options);
}

RendezvousServer::~RendezvousServer() = default;

int RendezvousServer::port() const {
  return service_->port();
}

std::optional<std::string> RendezvousServer::find(const std::string& key) const {
  return service_->find(key);
}

}  // namespace smoe
