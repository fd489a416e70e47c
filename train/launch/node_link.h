// How the launchers of several hosts hear of each other: over the rendezvous store that the one of
// node 0, the first, serves. The store has no messages, so they are numbered keys: what the first
// says to all, and what each other says to the first. Looking for the next one costs a short
// question and is done a few times a second, which also shows that the other end is alive.
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
  /// `options.num_nodes` is more than 1. The first node must be serving.
  explicit NodeLink(const LaunchOptions& options);

  /// Looks whether the first node serves yet, and makes itself known to it; true when it does. To
  /// be repeated until then. Throws: UsageError when this is another job's rendezvous.
  bool try_connect();

  /// From the first node to all others, or from another one to the first.
  /// Throws: SystemError when the first node is gone.
  void send(const NodeMessage& message);

  struct Received {
    int node;
    NodeMessage message;
  };
  /// The next message, if one has come. On the first node also what is said for a node whose
  /// launcher has been silent for too long: `failed`, then `ended`.
  /// Throws: SystemError when the first node is gone; UsageError for an unreadable message.
  std::optional<Received> receive();

 private:
  struct Peer {
    int num_received = 0;
    std::string beat;  // what was last seen of it, and until when that is a sign of life
    Deadline silent_at;
    bool is_lost = false;
  };
  bool is_first() const { return options_.node_rank == 0; }
  void look();
  void receive_of(int node);
  void check_alive(int node);
  void beat();

  const LaunchOptions& options_;
  std::optional<RendezvousStore> store_;
  std::vector<Peer> peers_;  // by node; of another node than the first: that one alone
  std::deque<Received> received_;
  int num_sent_ = 0;
  int num_beats_ = 0;
  Deadline next_beat_ = Deadline::in(0);
};

}  // namespace smoe
