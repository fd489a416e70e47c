// GlooMesh: connections between all pairs of ranks over Gloo (2022 or later). It uses only Gloo's
// point-to-point send and receive, and adds a deadline and cancellation to every wait.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/distributed/rendezvous_store.h"

namespace smoe {

/// Bytes to send, or a buffer to receive into.
struct ByteSpan {
  char* data = nullptr;
  std::int64_t bytes = 0;
};

/// Its threads, and any thread that calls exchange, must block SIGPIPE, which a lost connection
/// raises.
class GlooMesh {
 public:
  /// Connects to all other ranks, which must do the same. Throws: CommunicationError, and the
  /// errors of the store.
  GlooMesh(int rank, int world_size, RendezvousStore& store, double timeout_s);
  ~GlooMesh();
  GlooMesh(const GlooMesh&) = delete;
  GlooMesh& operator=(const GlooMesh&) = delete;

  /// The bytes to exchange with a rank; may be empty.
  using SpanOf = std::function<ByteSpan(int rank)>;
  /// Sends to and receives from every other rank concurrently, and waits for completion. All ranks
  /// call it in the same order, from one thread each, and must receive exactly the bytes that are
  /// sent. After it returns or throws, Gloo no longer accesses the memory.
  /// Throws: CommunicationError naming `op` and the rank that is lost or late.
  void exchange(const char* op, const Deadline& deadline, const SpanOf& send,
                const SpanOf& receive);

  /// Notifies the other ranks that this one has finished, so that they do not report it as lost;
  /// does nothing after stop(). To be called by the thread that calls exchange.
  void leave();

  /// Makes the current and all later exchanges fail with the reason `why`. From any thread.
  void stop(const std::string& why);
  /// Why nothing is exchanged any more; empty while it is. From any thread.
  std::string stop_reason() const;

 private:
  class Connections;
  std::unique_ptr<Connections> connections_;
};

}  // namespace smoe
