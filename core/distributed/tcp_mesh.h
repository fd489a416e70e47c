// TcpMesh: a TCP connection between every two ranks. Messages have no headers: all ranks make the
// same exchanges in the same order, and both sides know the sizes.
#pragma once
#include <poll.h>

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "core/distributed/rendezvous_store.h"
#include "core/system/socket.h"

namespace smoe {

/// Bytes to send, or a buffer to receive into.
struct ByteSpan {
  char* data = nullptr;
  std::int64_t bytes = 0;
};

/// Members that do not say "from any thread" must be called by one thread.
class TcpMesh {
 public:
  /// Connects to all other ranks, which must do the same. Throws: as connect_ranks.
  TcpMesh(int rank, int world_size, RendezvousStore& store, double timeout_s);
  TcpMesh(const TcpMesh&) = delete;
  TcpMesh& operator=(const TcpMesh&) = delete;

  /// The bytes to exchange with a rank; may be empty.
  using SpanOf = std::function<ByteSpan(int rank)>;
  /// Sends to and receives from every other rank concurrently, and waits for completion. All ranks
  /// must call it in the same order, and must receive exactly the bytes that are sent.
  /// Throws: CommunicationError naming `op` and the rank that is lost or late; all later exchanges
  /// fail too.
  void exchange(const char* op, const Deadline& deadline, const SpanOf& send,
                const SpanOf& receive);

  /// Waits for interrupt(), and meanwhile notices ranks that are lost.
  void wait();
  /// Ends the wait() in progress, or else the next one. From any thread.
  void interrupt();

  /// Notifies the other ranks that this one has finished, so that they do not report it as lost;
  /// does nothing after stop().
  void leave();

  /// Makes the current and all later exchanges fail with the reason `why`. From any thread.
  void stop(const std::string& why);
  /// Why nothing is exchanged any more; empty while it is. From any thread.
  std::string stop_reason() const;

 private:
  template <class F>
  void for_each_other(F&& f) const;
  bool move_bytes();
  [[noreturn]] void fail_late(const char* op, const Deadline& deadline);
  void poll(int timeout_ms);
  void check_gone(int other);
  void check_not_stopped(const char* op) const;

  int rank_;
  std::vector<Socket> sockets_;                // by rank
  std::vector<ByteSpan> sending_, receiving_;  // what is left of the current exchange, by rank
  std::vector<pollfd> polled_;                 // by rank; that of this rank is wake_
  std::vector<bool> has_left_;
  Descriptor wake_;           // an event that interrupt() and stop() set
  mutable std::mutex mutex_;  // guards stopped_
  std::string stopped_;
};

}  // namespace smoe
