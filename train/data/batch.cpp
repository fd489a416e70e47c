#include "train/data/batch.h"

#include <algorithm>

namespace smoe {

Batch read_batch(const TokenSet& set, Split split, std::span<const std::int64_t> positions,
                 std::int64_t seq_len) {
  const auto num_sequences = static_cast<std::int64_t>(positions.size());
  std::vector<std::int32_t> window(seq_len + 1), ids, targets;
  ids.reserve(num_sequences * seq_len);
  targets.reserve(num_sequences * seq_len);
  for (const std::int64_t position : positions) {
    set.read(split, position, seq_len + 1, window.data());
    ids.insert(ids.end(), window.begin(), window.end() - 1);
    targets.insert(targets.end(), window.begin() + 1, window.end());
  }
  const Shape shape{num_sequences * seq_len};
  return {Tensor::from(ids, shape), Tensor::from(targets, shape), num_sequences, seq_len};
}

}  // namespace smoe
