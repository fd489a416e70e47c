// Evaluation: how well a model predicts the validation split of a token set.
#pragma once
#include <functional>

#include "layers/transformer.h"
#include "train/data/token_set.h"
#include "train/data_parallel.h"

namespace smoe {

struct EvaluateOptions {
  std::int64_t seq_len = 0;  ///< tokens of a window; each is predicted from those before it there
  std::int64_t micro_batch = 0;         ///< windows at a time
  std::int64_t max_batches = 0;         ///< evenly spread over the split; 0: all of it
  const DataParallel* ranks = nullptr;  ///< who share the work and all get the result; null: none
};

struct Evaluation {
  std::int64_t tokens = 0;  ///< that were predicted
  double bytes = 0;         ///< of text these stand for; where only a part is evaluated, its share
  double nats = 0;          ///< sum of the tokens' cross-entropies
  double seconds = 0;

  double loss() const { return nats / static_cast<double>(tokens); }  ///< nats a token
  double perplexity() const;
  double bits_per_byte() const;
  /// Adds another set's: the means become those over both texts.
  Evaluation& operator+=(const Evaluation& other);
};

/// Called now and then with the tokens predicted and those to be predicted.
using OnEvaluated = std::function<void(std::int64_t done, std::int64_t total)>;

/// Records nothing. Throws: UsageError when the split has fewer than two tokens; what
/// TokenSet::read throws.
Evaluation evaluate(Transformer& model, const TokenSet& set, const EvaluateOptions& options,
                    const OnEvaluated& on_evaluated = nullptr);

}  // namespace smoe
