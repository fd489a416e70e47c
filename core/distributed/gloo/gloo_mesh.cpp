#include "core/distributed/gloo/gloo_mesh.h"

#include <gloo/rendezvous/context.h>
#include <gloo/transport/tcp/device.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <random>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/check.h"
#include "core/distributed/communicator.h"

namespace smoe {
namespace {

/// Adapts a RendezvousStore to Gloo's interface. Throws the errors of the store.
class GlooStore final : public gloo::rendezvous::Store {
 public:
  GlooStore(RendezvousStore& store, const Deadline& deadline)
      : store_(store), deadline_(deadline) {}
  void set(const std::string& key, const std::vector<char>& data) override {
    store_.set(name(key), {data.data(), data.size()}, deadline_);
  }
  std::vector<char> get(const std::string& key) override {
    const std::string value = store_.get(name(key), deadline_);
    return {value.begin(), value.end()};
  }
  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) store_.get(name(key), deadline_);
  }

 private:
  static std::string name(const std::string& key) { return "gloo/" + key; }
  RendezvousStore& store_;
  Deadline deadline_;
};

/// Connects all ranks; the signature changed in Gloo 2023.
template <class Context, class Device>
void connect_all(Context& context, const std::shared_ptr<GlooStore>& store, Device& device) {
  if constexpr (requires { context.connectFullMesh(*store, device); })
    context.connectFullMesh(*store, device);
  else
    context.connectFullMesh(store, device);
}

/// The message of a Gloo error, without its source location.
std::string reason_of(const std::exception& error) {
  const std::string text = error.what();
  const std::size_t end = text.find("] ");
  return text.front() == '[' && end != std::string::npos ? text.substr(end + 2) : text;
}

std::shared_ptr<gloo::rendezvous::Context> connected(int rank, int world_size,
                                                     RendezvousStore& store, double timeout_s) {
  gloo::transport::tcp::attr attributes;
  if (const char* const interface = std::getenv("GLOO_SOCKET_IFNAME"))
    attributes.iface = interface;
  else
    attributes.hostname = store.local_host();
  try {
    auto device = gloo::transport::tcp::CreateDevice(attributes);
    auto context = std::make_shared<gloo::rendezvous::Context>(rank, world_size);
    // Gloo multiplies this timeout by five while connecting.
    context->setTimeout(std::chrono::milliseconds(static_cast<long>(timeout_s * 1000 / 5) + 1));
    connect_all(*context, std::make_shared<GlooStore>(store, Deadline::in(timeout_s)), device);
    return context;
  } catch (const gloo::Exception& error) {
    throw CommunicationError(concat("communicator: rank ", rank, " of ", world_size,
                                    " cannot connect to the other ranks: ", reason_of(error)));
  }
}

}  // namespace

class GlooMesh::Connections {
 public:
  explicit Connections(std::shared_ptr<gloo::rendezvous::Context> context)
      : context_(std::move(context)), farewells_(context_->size) {
    watched_ = context_->createUnboundBuffer(farewells_.data(), farewells_.size());
    for_each_other([&](int rank) { watched_->recv(rank, kWatchSlot, rank, 1); });
    try {
      watcher_ = std::thread([this] { watch(); });
      timer_ = std::thread([this] { keep_time(); });
    } catch (const std::system_error& error) {
      close();
      throw SystemError(concat("communicator: start a thread: ", error.code().message()));
    }
  }

  ~Connections() { close(); }

  void exchange(const char* op, const Deadline& deadline, const SpanOf& send,
                const SpanOf& receive) {
    try {
      begin(op, deadline, send, receive);
      changed_.notify_all();
      // Only this thread changes the lists, so it may read them without the mutex.
      for (const auto& [rank, buffer] : receiving_) finish(op, rank, *buffer, &Transfer::waitRecv);
      for (const auto& [rank, buffer] : sending_) finish(op, rank, *buffer, &Transfer::waitSend);
    } catch (...) {
      end();
      throw;
    }
    end();
  }

  void leave() {
    {
      const std::lock_guard lock(mutex_);
      if (!stopped_.empty()) return;
    }
    try {
      const auto farewell = context_->createUnboundBuffer(&byte_, 1);
      for_each_other([&](int rank) { farewell->send(rank, kWatchSlot); });
      for_each_other([&](int) { farewell->waitSend(nullptr, kFarewellTime); });
    } catch (const gloo::Exception&) {
      // Ranks that are gone need no notice.
    }
  }

  void stop(const std::string& why) {
    const std::lock_guard lock(mutex_);
    wake(why);
  }

  std::string stop_reason() const {
    const std::lock_guard lock(mutex_);
    return stopped_;
  }

 private:
  using Transfer = gloo::transport::UnboundBuffer;
  using Wait = bool (Transfer::*)(int*, std::chrono::milliseconds);
  using Transfers = std::vector<std::pair<int, std::unique_ptr<Transfer>>>;  // by rank

  void close() {
    {
      const std::lock_guard lock(mutex_);
      is_closing_ = true;
    }
    changed_.notify_all();
    watched_->abortWaitRecv();
    if (watcher_.joinable()) watcher_.join();
    if (timer_.joinable()) timer_.join();
  }

  template <class F>
  void for_each_other(F&& f) {
    for (int rank = 0; rank < context_->size; ++rank)
      if (rank != context_->rank) f(rank);
  }

  // Gloo reports a lost connection only to receives that have not started. So each rank keeps one
  // receive pending per other rank, for a message that is sent only when that rank finishes.
  void watch() {
    try {
      for (int left = 1; left < context_->size; ++left)
        if (!watched_->waitRecv(nullptr, kForever)) return;
    } catch (const gloo::Exception& error) {
      const std::string reason = reason_of(error);
      for_each_other([&](int rank) {
        if (is_lost(rank)) stop(concat("lost rank ", rank, ": ", reason));
      });
    }
  }

  // Requires mutex_.
  void wake(const std::string& why) {
    if (stopped_.empty()) stopped_ = why;
    for (const auto& [rank, buffer] : receiving_) buffer->abortWaitRecv();
    for (const auto& [rank, buffer] : sending_) buffer->abortWaitSend();
  }

  // Gloo's own timeouts are not used: they close all connections, so that the other ranks would
  // report this one as lost before it has reported which rank was late.
  void keep_time() {
    std::unique_lock lock(mutex_);
    while (!is_closing_) {
      if (!deadline_ || is_late_) {
        changed_.wait(lock);
      } else if (deadline_->has_passed()) {
        is_late_ = true;
        wake("an earlier operation timed out");
      } else {
        changed_.wait_until(lock, deadline_->at());
      }
    }
  }

  bool is_lost(int rank) {
    try {
      char byte = 0;
      context_->createUnboundBuffer(&byte, 1)->recv(rank, kProbeSlot);
      return false;
    } catch (const gloo::Exception&) {
      return true;
    }
  }

  void begin(const char* op, const Deadline& deadline, const SpanOf& send, const SpanOf& receive) {
    const std::lock_guard lock(mutex_);
    if (!stopped_.empty()) throw CommunicationError(concat(op, ": ", stopped_));
    ++slot_;
    deadline_ = deadline;
    // Each rank starts with its neighbor, so that not all send to the same rank first.
    const int rank = context_->rank, world_size = context_->size;
    for (int i = 1; i < world_size; ++i) {
      const int from = (rank + world_size - i) % world_size, to = (rank + i) % world_size;
      add(receiving_, from, receive(from));
      add(sending_, to, send(to));
    }
    for (const auto& [from, buffer] : receiving_)
      guarded(op, from, [&, from = from] { buffer->recv(from, slot_); });
    for (const auto& [to, buffer] : sending_)
      guarded(op, to, [&, to = to] { buffer->send(to, slot_); });
  }

  void add(Transfers& transfers, int rank, const ByteSpan& span) {
    if (span.bytes > 0)
      transfers.emplace_back(rank, context_->createUnboundBuffer(span.data, span.bytes));
  }

  void finish(const char* op, int rank, Transfer& buffer, Wait wait) {
    guarded(op, rank, [&] {
      if ((buffer.*wait)(nullptr, kForever)) return;
      const std::lock_guard lock(mutex_);
      if (!is_late_) throw CommunicationError(concat(op, ": ", stopped_));
      throw CommunicationError(
          concat(op, ": rank ", rank, " did not respond within ", deadline_->total_s(), " s"));
    });
  }

  template <class F>
  void guarded(const char* op, int rank, F&& f) {
    try {
      f();
    } catch (const gloo::Exception& error) {
      throw CommunicationError(concat(op, ": lost rank ", rank, ": ", reason_of(error)));
    }
  }

  void end() {
    const std::lock_guard lock(mutex_);
    deadline_.reset();
    receiving_.clear();
    sending_.clear();
  }

  // Slots that no exchange uses; theirs count from 1.
  static constexpr std::uint64_t kWatchSlot = ~std::uint64_t{0}, kProbeSlot = kWatchSlot - 1;
  static constexpr std::chrono::milliseconds kForever = std::chrono::hours(24 * 3650);
  static constexpr std::chrono::milliseconds kFarewellTime{1000};

  std::shared_ptr<gloo::rendezvous::Context> context_;
  std::vector<char> farewells_;  // one byte per rank
  char byte_ = 0;
  std::unique_ptr<Transfer> watched_;
  std::thread watcher_, timer_;
  std::uint64_t slot_ = 0;
  mutable std::mutex mutex_;  // guards the members below
  std::condition_variable changed_;
  bool is_closing_ = false;
  std::optional<Deadline> deadline_;  // of the current exchange
  bool is_late_ = false;              // it has passed
  std::string stopped_;               // why exchanges fail; empty while they do not
  Transfers receiving_, sending_;     // of the current exchange
};

namespace {

constexpr std::size_t kTokenBytes = 16;

std::string random_bytes(std::size_t count) {
  std::random_device source;
  std::string bytes(count, '\0');
  for (char& byte : bytes) byte = static_cast<char>(source());
  return bytes;
}

std::string token_key(int rank) {
  return concat("tokens/", rank);
}

// Gloo takes the first process that connects to a port for the rank that it expects there. So each
// rank publishes a random token per other rank in the store, which only members of the job can
// read, before it connects, and sends it over the connection before any data.
std::string publish_tokens(int rank, int world_size, RendezvousStore& store,
                           const Deadline& deadline) {
  const std::string tokens = random_bytes(world_size * kTokenBytes);
  store.set(token_key(rank), tokens, deadline);
  return tokens;
}

template <class Connections>
void check_tokens(Connections& connections, int rank, int world_size, std::string own,
                  RendezvousStore& store, const Deadline& deadline) {
  std::string received(own.size(), '\0');
  const auto span = [](std::string& tokens, int of) {
    return ByteSpan{tokens.data() + of * kTokenBytes, kTokenBytes};
  };
  connections.exchange(
      "connect", deadline, [&](int to) { return span(own, to); },
      [&](int from) { return span(received, from); });
  for (int other = 0; other < world_size; ++other) {
    if (other == rank) continue;
    // A rank that has connected has published its tokens.
    const std::string sent = store.find(token_key(other), deadline).value_or("");
    if (sent.size() == own.size() && sent.compare(rank * kTokenBytes, kTokenBytes, received,
                                                  other * kTokenBytes, kTokenBytes) == 0)
      continue;
    throw CommunicationError(concat(
        "communicator: a process that does not belong to this job connected to a port of ", "rank ",
        rank, " in the place of rank ", other, "; use a network without strangers"));
  }
}

}  // namespace

GlooMesh::GlooMesh(int rank, int world_size, RendezvousStore& store, double timeout_s) {
  const Deadline deadline = Deadline::in(timeout_s);
  const std::string tokens = publish_tokens(rank, world_size, store, deadline);
  connections_ = std::make_unique<Connections>(connected(rank, world_size, store, timeout_s));
  check_tokens(*connections_, rank, world_size, tokens, store, Deadline::in(timeout_s));
}

GlooMesh::~GlooMesh() = default;

void GlooMesh::exchange(const char* op, const Deadline& deadline, const SpanOf& send,
                        const SpanOf& receive) {
  connections_->exchange(op, deadline, send, receive);
}

void GlooMesh::leave() {
  connections_->leave();
}

void GlooMesh::stop(const std::string& why) {
  connections_->stop(why);
}

std::string GlooMesh::stop_reason() const {
  return connections_->stop_reason();
}

}  // namespace smoe
