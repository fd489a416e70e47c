// What a run trains on: one token set, or several that are blended by weight.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "train/config/config.h"
#include "train/data/open_token_set.h"

namespace smoe {

/// The configuration key of a source's path: "data.sources.NAME.path".
std::string path_key_of(const DataSource& source);

/// The path of the first training set that does not exist; empty when all exist.
std::string missing_set(const DataConfig& config);

/// A token set with its weight in the blend.
struct BlendedSet {
  std::string name;  ///< empty for a single set
  TokenSet set;
  double weight = 1;
};

/// The training sets of a run, all made with the same tokenizer. Not thread-safe.
class TrainingData {
 public:
  /// Throws: UsageError, naming both, when two sets have different tokenizers.
  explicit TrainingData(std::vector<BlendedSet> sets);
  /// Opens data.path or data.sources. Throws: UsageError when one does not exist; what
  /// TokenSet::open throws.
  static TrainingData open(const DataConfig& config);

  const std::vector<BlendedSet>& sets() const { return sets_; }
  std::int64_t vocab_size() const { return sets_.front().set.vocab_size(); }
  /// One per set, in order.
  std::vector<double> weights() const;
  /// Over all sets.
  std::int64_t num_tokens(Split split) const;
  std::unique_ptr<Tokenizer> tokenizer() const { return sets_.front().set.tokenizer(); }
  /// The token ids that a model of these sets reads.
  TokenSpace token_space() const { return token_space_of(sets_.front().set); }
  /// Digest of the sets' contents and names.
  Digest digest() const;
  /// The path of a single set, or "2 sets: web 70%, code 30%".
  std::string summary() const;

 private:
  std::vector<BlendedSet> sets_;
};

}  // namespace smoe
