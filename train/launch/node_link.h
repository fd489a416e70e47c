// NodeLink: messages between the launchers of several hosts, through the rendezvous store that the
// launcher of node 0, the first, serves. Messages are numbered keys of the store: those of the
// first node to all others, and those of each other node to the first. Each launcher polls for the
// next one several times per second, which also detects a lost launcher.
#pragma once
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "core/distributed/rendezvous_store.h"
#include "train/launch/launch_options.h"
#include "train/launch/node_message.h"

namespace smoe {

class NodeLink {
 public:
  /// Requires options.num_nodes > 1. On the first node, the server must be running.
  explicit NodeLink(const LaunchOptions& options);

  /// Tries to connect to the first node and to join the job; returns whether it succeeded. To be
  /// repeated until it does. Throws: UsageError when the rendezvous is that of another job.
  bool try_connect();

  /// Sends from the first node to all others, or from another node to the first.
  /// Throws: SystemError when the first node is lost.
  void send(const NodeMessage& message);

  struct Received {
    int node;
    NodeMessage message;
  };
  /// The next message, if one has arrived. On the first node, a launcher without heartbeats counts
  /// as lost and yields the messages `failed` and `ended`.
  /// Throws: SystemError when the first node is lost; UsageError for an invalid message.
  std::optional<Received> receive();

 private:
  struct Peer {
    int num_received = 0;
    std::string heartbeat;  // the last one seen
    Deadline lost_at;       // when the node counts as lost without another
    bool is_lost = false;
  };
  bool is_first() const { return options_.node_rank == 0; }
  void poll();
  void receive_from(int node);
  void check_alive(int node);
  void send_heartbeat();

  const LaunchOptions& options_;
  std::optional<RendezvousStore> store_;
  std::vector<Peer> peers_;  // by node; on nodes other than the first, only the first
  std::deque<Received> received_;
  int num_sent_ = 0;
  int num_heartbeats_ = 0;
  Deadline next_heartbeat_ = Deadline::in(0);
};

}  // namespace smoe
