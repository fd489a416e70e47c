// BatchReader: reads training batches, each while the device works on the one before. The first
// read of a block of a token set verifies the whole block, which takes milliseconds.
#pragma once
#include <future>
#include <vector>

#include "train/data/batch.h"

namespace smoe {

class BatchReader {
 public:
  BatchReader(Split split, std::int64_t seq_len) : split_(split), seq_len_(seq_len) {}
  /// Waits for a read in the background.
  ~BatchReader() = default;

  /// The batch of `sequences`, on the current device; then begins to read `next` in the background
  /// unless it is empty. A batch that was not announced as the last `next` is read now.
  /// Throws: what TokenSet::read throws for `sequences`; a failed read of `next` throws only when
  /// that batch is asked for.
  Batch read(std::vector<SequenceRef> sequences, std::vector<SequenceRef> next);

 private:
  Split split_;
  std::int64_t seq_len_;
  std::vector<SequenceRef> announced_;
  std::future<HostBatch> read_ahead_;
};

}  // namespace smoe
