// Which sequences each training step reads, over all token sets of a run.
#pragma once
#include <cstdint>
#include <vector>

#include "train/data/batch.h"
#include "train/data/blend_schedule.h"
#include "train/data/training_data.h"
#include "train/data/window_sampler.h"

namespace smoe {

/// Where sampling by the current blend and batch size began: before the first step, or when a run
/// changed them.
struct SamplingStart {
  std::int64_t batch = 0;            ///< batches sampled before
  std::vector<std::int64_t> counts;  ///< samples taken of each set before; empty: none
};

/// The sequences of each step: BlendSchedule decides which set gives a sample, that set's
/// WindowSampler which of its windows. Each set is reshuffled in each of its own epochs. A function
/// of seed, start and step only: independent of the number of ranks, and resumable from the step.
/// Not thread-safe.
class BatchSampler {
 public:
  /// `data` must outlive the sampler. Throws: UsageError, naming the set, when one is shorter than
  /// a sequence.
  BatchSampler(const TrainingData& data, std::uint64_t seed, std::int64_t seq_len,
               std::int64_t global_batch);

  /// Samples anew by this sampler's weights and batch size from `start` on, each set continuing
  /// after its earlier samples.
  void start_at(SamplingStart start);
  const SamplingStart& start() const { return start_; }

  /// The sequences of a step (from 0, not before start().batch), [global_batch]. Micro-batch j of
  /// the step is its sequences [j * micro_batch, (j + 1) * micro_batch).
  std::vector<SequenceRef> batch(std::int64_t step) const;

 private:
  const TrainingData& data_;
  std::int64_t global_batch_;
  BlendSchedule blend_;
  SamplingStart start_;
  std::vector<WindowSampler> samplers_;  // one per set
};

}  // namespace smoe
