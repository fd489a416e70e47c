#include "train/data/batch.h"

#include <algorithm>

namespace smoe {

Batch read_batch(std::span<const SequenceRef> sequences, Split split, std::int64_t seq_len) {
  const auto num_sequences = static_cast<std::int64_t>(sequences.size());
  std::vector<std::int32_t> window(seq_len + 1), ids, targets;
  ids.reserve(num_sequences * seq_len);
  targets.reserve(num_sequences * seq_len);
  for (const auto& [set, position] : sequences) {
    set->read(split, position, seq_len + 1, window.data());
    ids.insert(ids.end(), window.begin(), window.end() - 1);
    targets.insert(targets.end(), window.begin() + 1, window.end());
  }
  const Shape shape{num_sequences * seq_len};
  return {Tensor::from(ids, shape), Tensor::from(targets, shape), num_sequences, seq_len};
}

Batch read_batch(const TokenSet& set, Split split, std::span<const std::int64_t> positions,
                 std::int64_t seq_len) {
  std::vector<SequenceRef> sequences;
  for (const std::int64_t position : positions) sequences.push_back({&set, position});
  return read_batch(sequences, split, seq_len);
}

}  // namespace smoe
