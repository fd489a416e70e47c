// Which tokens a step trains on: a pure function of (seed, epoch, step), the same for any number of
// ranks. The training stream is cut into windows of S tokens that overlap the next one by the token
// their last target is; each epoch cuts at another random offset and visits its windows in another
// pseudo-random order, a Feistel permutation (Black and Rogaway, CT-RSA 2002) that needs no memory.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace smoe {

/// The order of training sequences. Nothing in it changes, so a run resumes from its step alone.
class Sampler {
 public:
  /// `num_tokens` of the training stream, `seq_len` = S targets a sequence, `global_batch`
  /// sequences a step. Streams of other names have other orders.
  /// Throws: UsageError unless the stream holds one sequence, S + 1 tokens.
  Sampler(std::uint64_t seed, std::int64_t num_tokens, std::int64_t seq_len,
          std::int64_t global_batch, std::string_view name = "");

  /// Positions of the first tokens of the sequences of a step (from 0), [global_batch]: sequence i
  /// has inputs [p_i, p_i + S) and targets [p_i + 1, p_i + S + 1). Micro-batch j of a step is its
  /// sequences [j * micro_batch, (j + 1) * micro_batch). A step may span epochs.
  std::vector<std::int64_t> batch(std::int64_t step) const;
  /// The positions of the sequences [first, first + count), counted from the first step's first.
  std::vector<std::int64_t> positions(std::int64_t first, std::int64_t count) const;

  /// Sequences of one epoch; the same in each.
  std::int64_t num_windows() const { return num_windows_; }
  /// Epochs done before `step`, e.g. 1.5.
  double epochs_before(std::int64_t step) const;

 private:
  std::uint64_t seed_;
  std::uint64_t name_;  // its hash
  std::int64_t num_tokens_;
  std::int64_t seq_len_;
  std::int64_t global_batch_;
  std::int64_t num_windows_;
};

/// Sequences that are evaluated together: positions as in Sampler::batch, `length` targets each.
struct EvalBatch {
  std::vector<std::int64_t> positions;
  std::int64_t length = 0;
};

/// Consecutive windows of `seq_len` over a validation stream, in batches of up to `micro_batch`;
/// the rest of the stream is a last batch of one shorter sequence. So every token but the first, an
/// end-of-text token that nothing precedes, is the target of exactly one prediction, and the sum of
/// their losses over the text's bytes is its bits per byte. `max_batches` > 0 takes that many whole
/// batches, spread evenly over the stream, when there are more.
/// Throws: UsageError when the stream has fewer than two tokens.
std::vector<EvalBatch> eval_batches(std::int64_t num_tokens, std::int64_t seq_len,
                                    std::int64_t micro_batch, std::int64_t max_batches);

}  // namespace smoe
