#include "train/tokenizer/bpe_merges.h"

#include <queue>

namespace smoe {
namespace {

std::uint64_t key_of(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

// A symbol in a doubly linked list; -1 means none.
struct Node {
  std::int32_t symbol, previous, next;
  bool is_merged = false;  // into the one on its left
};

struct Candidate {
  std::int32_t rank, position, result;
  bool operator<(const Candidate& other) const {  // the greatest is merged first
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

}  // namespace

void BpeMerges::add(std::int32_t left, std::int32_t right, std::int32_t result) {
  merges_.insert_or_assign(key_of(left, right), Merge{next_rank_++, result});
}

const BpeMerges::Merge* BpeMerges::find(std::int32_t left, std::int32_t right) const {
  const auto found = merges_.find(key_of(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void BpeMerges::apply(std::vector<std::int32_t>& symbols) const {
  const auto size = static_cast<std::int32_t>(symbols.size());
  if (size < 2) return;
  std::vector<Node> nodes;
  for (std::int32_t i = 0; i < size; ++i)
    nodes.push_back({symbols[static_cast<std::size_t>(i)], i - 1, i + 1 < size ? i + 1 : -1});
  const auto node = [&](std::int32_t i) -> Node& { return nodes[static_cast<std::size_t>(i)]; };

  std::priority_queue<Candidate> candidates;
  const auto consider = [&](std::int32_t left) {
    if (left < 0 || node(left).next < 0) return;
    if (const Merge* merge = find(node(left).symbol, node(node(left).next).symbol))
      candidates.push({merge->rank, left, merge->result});
  };
  for (std::int32_t i = 0; i + 1 < size; ++i) consider(i);

  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Node& left = node(best.position);
    if (left.is_merged || left.next < 0) continue;
    Node& right = node(left.next);
    const Merge* merge = find(left.symbol, right.symbol);
    if (!merge || merge->result != best.result) continue;  // it changed since it was considered
    left.symbol = best.result;
    right.is_merged = true;
    left.next = right.next;
    if (left.next >= 0) node(left.next).previous = best.position;
    consider(left.previous);
    consider(best.position);
  }
  symbols.clear();
  for (std::int32_t i = 0; i >= 0; i = node(i).next) symbols.push_back(node(i).symbol);
}

}  // namespace smoe
