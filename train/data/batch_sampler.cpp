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
  start_.counts.resize(samplers_.size());
}

void BatchSampler::start_at(SamplingStart start) {
  SMOE_CHECK(start.counts.size() == samplers_.size(), "batch sampler: counts must have one of ",
             samplers_.size(), " sets each; got ", start.counts.size());
  start_ = std::move(start);
}

std::vector<SequenceRef> BatchSampler::batch(std::int64_t step) const {
  std::vector<SequenceRef> sequences;
  const std::int64_t first = (step - start_.batch) * global_batch_;
  for (const auto& [source, index] : blend_.picks(first, global_batch_)) {
    const std::int64_t sample = start_.counts[source] + index;
    sequences.push_back(
        {&data_.sets()[source].set, samplers_[source].positions(sample, 1).front()});
  }
  return sequences;
}

}  // namespace smoe
