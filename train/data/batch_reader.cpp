#include "train/data/batch_reader.h"

namespace smoe {

Batch BatchReader::read(std::vector<SequenceRef> sequences, std::vector<SequenceRef> next) {
  const bool is_announced = read_ahead_.valid() && announced_ == sequences;
  const HostBatch batch =
      is_announced ? read_ahead_.get() : read_host_batch(sequences, split_, seq_len_);
  // The result of an unused batch is dropped, and its error with it.
  read_ahead_ = {};
  announced_ = std::move(next);
  if (!announced_.empty())
    read_ahead_ = std::async(std::launch::async,
                             [announced = announced_, split = split_, seq_len = seq_len_] {
                               return read_host_batch(announced, split, seq_len);
                             });
  return to_device(batch);
}

}  // namespace smoe
