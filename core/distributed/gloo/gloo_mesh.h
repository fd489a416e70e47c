// GlooMesh: connections from each rank to each other over Gloo (as of 2022 or later), of which it
// uses sending and receiving alone, with a deadline and a way out of every wait.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/distributed/rendezvous_store.h"

namespace smoe {

/// Bytes to send, or the place for some to receive.
struct ByteSpan {
  char* data = nullptr;
  std::int64_t bytes = 0;
};

/// Its threads, also the caller's that exchanges, must block SIGPIPE, which a lost connection
/// sends.
class GlooMesh {
 public:
  /// Connects to all other ranks, which must all do so. Throws: CommunicationError, what the store
  /// throws.
  GlooMesh(int rank, int world_size, RendezvousStore& store, double timeout_s);
  ~GlooMesh();
  GlooMesh(const GlooMesh&) = delete;
  GlooMesh& operator=(const GlooMesh&) = delete;

  /// What goes to or comes from a rank; no bytes: nothing.
  using SpanOf = std::function<ByteSpan(int rank)>;
  /// Sends and receives at once, with each other rank what the functions say, and waits for it. All
  /// ranks call it in one order, from one thread each, and expect as many bytes as are sent. When
  /// it returns or throws, Gloo does not touch the memory any more.
  /// Throws: CommunicationError, naming `op` and the rank that is lost or late.
  void exchange(const char* op, const Deadline& deadline, const SpanOf& send,
                const SpanOf& receive);

  /// Tells the others that this rank is done, so that they do not take its end for a loss; nothing
  /// after stop(). By the thread that exchanges.
  void leave();

  /// Ends an exchange under way and refuses later ones, saying why. From any thread.
  void stop(const std::string& why);

 private:
  class Connections;
  std::unique_ptr<Connections> connections_;
};

}  // namespace smoe
