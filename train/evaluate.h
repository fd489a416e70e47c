// Evaluation: loss of a model on the validation split of a dataset.
#pragma once
#include <functional>

#include "layers/transformer.h"
#include "train/data/token_set.h"
#include "train/data_parallel.h"

namespace smoe {

struct EvaluateOptions {
  std::int64_t seq_len =
      0;  ///< tokens per window; each is predicted from those before it in the window
  std::int64_t micro_batch = 0;  ///< windows per batch
  std::int64_t max_batches = 0;  ///< spread evenly over the split; 0: all of it
  const DataParallel* parallel =
      nullptr;  ///< ranks that share the batches and all get the result; null: this process only
};

struct Evaluation {
  std::int64_t tokens = 0;  ///< predicted tokens
  double bytes = 0;         ///< bytes of their text
  double nats = 0;          ///< sum of their cross-entropies
  double seconds = 0;

  double loss() const { return nats / static_cast<double>(tokens); }  ///< nats per token
  double perplexity() const;
  double bits_per_byte() const;
  /// Adds the totals of another dataset, so that means are over both texts.
  Evaluation& operator+=(const Evaluation& other);
};

/// Called after each round of one batch per rank, equally often on all ranks, with the number of
/// tokens predicted so far and in total. An exception, which all ranks must throw in the same
/// round, ends the evaluation.
using OnEvaluated = std::function<void(std::int64_t done, std::int64_t total)>;

/// Records no ops. Throws: UsageError if the split has fewer than two tokens; what TokenSet::read
/// throws.
Evaluation evaluate(Transformer& model, const TokenSet& set, const EvaluateOptions& options,
                    const OnEvaluated& on_evaluated = nullptr);

}  // namespace smoe
