#include "train/launch/node_link.h"

#include "core/base/check.h"

namespace smoe {
namespace {

// Time limit of one request to the first node, which blocks the launcher.
constexpr double kReplySeconds = 15;
constexpr double kHeartbeatSeconds = 1;
constexpr double kLostSeconds = 10;
constexpr double kConnectSeconds = 0.2;

// Keys of the messages from node `from`; those of node 0 are for all others.
std::string message_key(int from, int number) {
  return concat("launch/", from, "/", number);
}
std::string heartbeat_key(int node) {
  return concat("launch/beat/", node);
}

}  // namespace

NodeLink::NodeLink(const LaunchOptions& options) : options_(options) {
  peers_.resize(is_first() ? options.num_nodes : 1);
}

bool NodeLink::try_connect() {
  try {
    store_.emplace(RendezvousStore::Options{{options_.host, options_.port}, options_.job_id},
                   Deadline::in(kConnectSeconds));
  } catch (const SystemError&) {
    return false;
  }
  if (is_first()) return true;
  const std::int64_t num_joined =
      store_->add(concat("launch/joined/", options_.node_rank), 1, Deadline::in(kReplySeconds));
  SMOE_CHECK(num_joined == 1, "launch: each host must have its own node rank; ", options_.node_rank,
             " has already joined this job");
  send({.kind = NodeMessage::Kind::joined,
        .numbers = {options_.num_nodes, options_.num_local_ranks}});
  return true;
}

void NodeLink::send(const NodeMessage& message) {
  store_->set(message_key(options_.node_rank, num_sent_), to_text(message),
              Deadline::in(kReplySeconds));
  ++num_sent_;
}

std::optional<NodeLink::Received> NodeLink::receive() {
  if (received_.empty()) poll();
  if (received_.empty()) return std::nullopt;
  Received next = std::move(received_.front());
  received_.pop_front();
  return next;
}

void NodeLink::poll() {
  if (!is_first()) {
    send_heartbeat();
    return receive_from(0);
  }
  for (int node = 1; node < options_.num_nodes; ++node) {
    receive_from(node);
    check_alive(node);
  }
}

void NodeLink::receive_from(int node) {
  Peer& peer = peers_[node];
  while (const auto text =
             store_->find(message_key(node, peer.num_received), Deadline::in(kReplySeconds))) {
    received_.push_back({node, parse_node_message(*text)});
    ++peer.num_received;
  }
}

void NodeLink::send_heartbeat() {
  if (!next_heartbeat_.has_passed()) return;
  store_->set(heartbeat_key(options_.node_rank), std::to_string(++num_heartbeats_),
              Deadline::in(kReplySeconds));
  next_heartbeat_ = Deadline::in(kHeartbeatSeconds);
}

// Nodes that have not joined yet are handled by Launcher::join.
void NodeLink::check_alive(int node) {
  Peer& peer = peers_[node];
  if (peer.num_received == 0 || peer.is_lost) return;
  const std::string heartbeat =
      store_->find(heartbeat_key(node), Deadline::in(kReplySeconds)).value_or("none");
  if (heartbeat != peer.heartbeat) {
    peer.heartbeat = heartbeat;
    peer.lost_at = Deadline::in(kLostSeconds);
  }
  if (!peer.lost_at.has_passed()) return;
  peer.is_lost = true;
  JobFailure failure;
  failure.line = concat("no heartbeat from the launcher of node ", node, " for ", kLostSeconds,
                        " s: it or its host has failed");
  failure.is_death = true;
  received_.push_back({node, {.kind = NodeMessage::Kind::failed, .failure = failure}});
  received_.push_back({node, {.kind = NodeMessage::Kind::ended, .numbers = {1}}});
}

}  // namespace smoe
