#include "train/launch/node_link.h"

#include "core/base/check.h"

namespace smoe {
namespace {

// One question to the first node; the launcher does nothing else meanwhile.
constexpr double kAnswerSeconds = 15;
constexpr double kBeatSeconds = 1;
constexpr double kSilentSeconds = 10;
constexpr double kConnectSeconds = 0.2;

// Keys of what node `from` says. The first node, 0, speaks to all.
std::string message_key(int from, int number) {
  return concat("launch/", from, "/", number);
}
std::string beat_key(int node) {
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
      store_->add(concat("launch/joined/", options_.node_rank), 1, Deadline::in(kAnswerSeconds));
  SMOE_CHECK(num_joined == 1, "--node-rank: each host must have its own; ", options_.node_rank,
             " has joined this job already");
  send({.kind = NodeMessage::Kind::joined,
        .numbers = {options_.num_nodes, options_.num_local_ranks}});
  return true;
}

void NodeLink::send(const NodeMessage& message) {
  store_->set(message_key(options_.node_rank, num_sent_), to_text(message),
              Deadline::in(kAnswerSeconds));
  ++num_sent_;
}

std::optional<NodeLink::Received> NodeLink::receive() {
  if (received_.empty()) look();
  if (received_.empty()) return std::nullopt;
  Received next = std::move(received_.front());
  received_.pop_front();
  return next;
}

void NodeLink::look() {
  if (!is_first()) {
    beat();
    return receive_of(0);
  }
  for (int node = 1; node < options_.num_nodes; ++node) {
    receive_of(node);
    check_alive(node);
  }
}

void NodeLink::receive_of(int node) {
  Peer& peer = peers_[node];
  while (const auto text =
             store_->find(message_key(node, peer.num_received), Deadline::in(kAnswerSeconds))) {
    received_.push_back({node, parse_node_message(*text)});
    ++peer.num_received;
  }
}

void NodeLink::beat() {
  if (!next_beat_.has_passed()) return;
  store_->set(beat_key(options_.node_rank), std::to_string(++num_beats_),
              Deadline::in(kAnswerSeconds));
  next_beat_ = Deadline::in(kBeatSeconds);
}

// A launcher that was not heard of at all is waited for elsewhere.
void NodeLink::check_alive(int node) {
  Peer& peer = peers_[node];
  if (peer.num_received == 0 || peer.is_lost) return;
  const std::string beat =
      store_->find(beat_key(node), Deadline::in(kAnswerSeconds)).value_or("none");
  if (beat != peer.beat) {
    peer.beat = beat;
    peer.silent_at = Deadline::in(kSilentSeconds);
  }
  if (!peer.silent_at.has_passed()) return;
  peer.is_lost = true;
  JobFailure failure;
  failure.line = concat("the launcher of node ", node, " has been silent for ", kSilentSeconds,
                        " s: it or its host is gone");
  failure.is_death = true;
  received_.push_back({node, {.kind = NodeMessage::Kind::failed, .failure = failure}});
  received_.push_back({node, {.kind = NodeMessage::Kind::ended, .numbers = {1}}});
}

}  // namespace smoe
