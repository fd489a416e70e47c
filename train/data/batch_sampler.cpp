#include "train/data/batch_sampler.h"

namespace smoe {

BatchSampler::BatchSampler(const TrainingData& data, std::uint64_t seed, std::int64_t seq_len,
                           std::int64_t global_batch)
    : data_(data), global_batch_(global_batch), blend_(data.weights()) {
  SMOE_CHECK(global_batch > 0, "batch sampler: global_batch must be positive; got ", global_batch);
  for (const auto& [name, set, weight] : data.sets()) {
    const std::int64_t num_tokens = set.num_tokens(Split::train);
    SMOE_CHECK(seq_len < num_tokens, "training data: seq_len must be below the ", num_tokens,
               " training tokens of ", set.path(), "; got ", seq_len);
    samplers_.emplace_back(seed, num_tokens, seq_len, name);
  }
}

std::vector<SequenceRef> BatchSampler::batch(std::int64_t step) const {
  std::vector<SequenceRef> sequences;
  for (const auto& [source, index] : blend_.picks(step * global_batch_, global_batch_))
    sequences.push_back({&data_.sets()[source].set, samplers_[source].positions(index, 1).front()});
  return sequences;
}

}  // namespace smoe
