#include "train/data/batch.h"

#include <algorithm>

namespace smoe {

HostBatch read_host_batch(std::span<const SequenceRef> sequences, Split split,
                          std::int64_t seq_len) {
  HostBatch batch{.token_ids = {},
                  .targets = {},
                  .num_sequences = static_cast<std::int64_t>(sequences.size()),
                  .seq_len = seq_len};
  std::vector<std::int32_t> window(seq_len + 1);
  batch.token_ids.reserve(batch.num_sequences * seq_len);
  batch.targets.reserve(batch.num_sequences * seq_len);
  for (const auto& [set, position] : sequences) {
    set->read(split, position, seq_len + 1, window.data());
    batch.token_ids.insert(batch.token_ids.end(), window.begin(), window.end() - 1);
    batch.targets.insert(batch.targets.end(), window.begin() + 1, window.end());
  }
  return batch;
}

Batch to_device(const HostBatch& batch) {
  const Shape shape{batch.num_sequences * batch.seq_len};
  return {Tensor::from(batch.token_ids, shape), Tensor::from(batch.targets, shape),
          batch.num_sequences, batch.seq_len};
}

Batch read_batch(std::span<const SequenceRef> sequences, Split split, std::int64_t seq_len) {
  return to_device(read_host_batch(sequences, split, seq_len));
}

Batch read_batch(const TokenSet& set, Split split, std::span<const std::int64_t> positions,
                 std::int64_t seq_len) {
  std::vector<SequenceRef> sequences;
  for (const std::int64_t position : positions) sequences.push_back({&set, position});
  return read_batch(sequences, split, seq_len);
}

}  // namespace smoe
