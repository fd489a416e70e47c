// What a run trains on: one token set, or several that are blended by weight. Which sequences a
// step sees is a function of seed and step alone, the same for any number of ranks.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "train/config/config.h"
#include "train/data/batch.h"
#include "train/data/blend.h"
#include "train/data/sampler.h"
#include "train/data/token_set.h"

namespace smoe {

/// The set at `path`, the value of the configuration's `key`. Throws: UsageError when it is not
/// there; what TokenSet::open throws.
TokenSet open_token_set(const std::string& key, const std::string& path);

/// The key of a source's path.
std::string path_key_of(const DataSource& source);

/// The path of the first token set to train on that is not there; empty when all are.
std::string missing_set(const DataConfig& config);

/// A token set with its share in the training.
struct BlendedSet {
  std::string name;  ///< empty for the only one
  TokenSet set;
  double weight = 1;
};

/// The sets to train on, all made with the same tokenizer. Not to be used by two threads at once.
class TrainingData {
 public:
  /// Throws: UsageError, naming both, when two sets have different tokenizers.
  explicit TrainingData(std::vector<BlendedSet> sets);
  /// Opens data.path or data.sources. Throws: UsageError when one is not there; what
  /// TokenSet::open throws.
  static TrainingData open(const DataConfig& config);

  const std::vector<BlendedSet>& sets() const { return sets_; }
  std::int64_t vocab_size() const { return sets_.front().set.vocab_size(); }
  /// Of all sets.
  std::int64_t num_tokens(Split split) const;
  std::unique_ptr<Tokenizer> tokenizer() const { return sets_.front().set.tokenizer(); }
  /// Digest of all that the sets hold, and of their names.
  Digest digest() const;
  /// The path of the only set, or "2 sets: web 70%, code 30%".
  std::string summary() const;

 private:
  std::vector<BlendedSet> sets_;
};

/// The order of sequences over all sets. Each set is reshuffled in each of its own epochs. Nothing
/// in it changes, so a run resumes from its step alone.
class TrainingSampler {
 public:
  /// `data` must outlive the sampler. Throws: UsageError, naming the set, when one is shorter than
  /// a sequence.
  TrainingSampler(const TrainingData& data, std::uint64_t seed, std::int64_t seq_len,
                  std::int64_t global_batch);

  /// The sequences of a step, [global_batch]; see Sampler::batch.
  std::vector<Sequence> batch(std::int64_t step) const;

 private:
  const TrainingData& data_;
  std::int64_t global_batch_;
  Blend blend_;
  std::vector<Sampler> samplers_;  // of each set
};

}  // namespace smoe
