// Batch: token ids and next-token targets of several sequences, on the current device.
#pragma once
#include <span>

#include "core/tensor.h"
#include "train/data/token_set.h"

namespace smoe {

struct Batch {
  Tensor token_ids;  // i32 [B*S], sequence by sequence
  Tensor targets;    // i32 [B*S], the next token of each
  std::int64_t num_sequences = 0;
  std::int64_t seq_len = 0;

  std::int64_t num_tokens() const { return num_sequences * seq_len; }
};

/// Refers to a sequence by the position of its first token in a split of `set`, which must outlive
/// the reference.
struct SequenceRef {
  const TokenSet* set = nullptr;
  std::int64_t position = 0;

  friend bool operator==(const SequenceRef&, const SequenceRef&) = default;
};

/// A batch on the host.
struct HostBatch {
  std::vector<std::int32_t> token_ids = {};  ///< [B*S]
  std::vector<std::int32_t> targets = {};    ///< [B*S]
  std::int64_t num_sequences = 0;
  std::int64_t seq_len = 0;
};

/// Reads sequences of `seq_len` tokens into memory of the host.
/// Throws: what TokenSet::read throws.
HostBatch read_host_batch(std::span<const SequenceRef> sequences, Split split,
                          std::int64_t seq_len);

/// Copies a batch to the current device.
Batch to_device(const HostBatch& batch);

/// Reads sequences of `seq_len` tokens, from one set or several.
/// Throws: what TokenSet::read throws.
Batch read_batch(std::span<const SequenceRef> sequences, Split split, std::int64_t seq_len);

/// Reads the sequences of `seq_len` tokens that begin at `positions` of a split.
/// Throws: what TokenSet::read throws.
Batch read_batch(const TokenSet& set, Split split, std::span<const std::int64_t> positions,
                 std::int64_t seq_len);

}  // namespace smoe
