#include "train/evaluate.h"

#include <chrono>
#include <cmath>
#include <numbers>

#include "autograd/tape.h"
#include "train/data/batch.h"
#include "train/data/eval_batches.h"
#include "train/tokenizer/tokenizer.h"

namespace smoe {

double Evaluation::perplexity() const {
  return std::exp(loss());
}

double Evaluation::bits_per_byte() const {
  return nats / std::numbers::ln2 / bytes;
}

Evaluation& Evaluation::operator+=(const Evaluation& other) {
  tokens += other.tokens;
  bytes += other.bytes;
  nats += other.nats;
  seconds += other.seconds;
  return *this;
}

namespace {

/// Counts the bytes of text that targets stand for.
class TextBytes {
 public:
  explicit TextBytes(const Tokenizer& tokenizer)
      : begin_(tokenizer.begin_of_text()), prefix_bytes_(tokenizer.document_prefix().size()) {
    for (std::int32_t token = 0; token < tokenizer.vocab_size(); ++token)
      bytes_.push_back(static_cast<std::int64_t>(tokenizer.bytes_of(token).size()));
  }

  std::int64_t of(const Batch& batch) const {
    const auto inputs = batch.token_ids.to_vector<std::int32_t>();
    const auto targets = batch.targets.to_vector<std::int32_t>();
    std::int64_t bytes = 0;
    for (std::size_t i = 0; i < targets.size(); ++i) {
      const std::int64_t token_bytes = bytes_[static_cast<std::size_t>(targets[i])];
      // A document's prefix is no text.
      const bool has_prefix = inputs[i] == begin_ && token_bytes > 0;
      bytes += token_bytes - (has_prefix ? prefix_bytes_ : 0);
    }
    return bytes;
  }

 private:
  std::int32_t begin_;
  std::int64_t prefix_bytes_;
  std::vector<std::int64_t> bytes_;  // [V]
};

}  // namespace

Evaluation evaluate(Transformer& model, const TokenSet& set, const EvaluateOptions& options,
                    const OnEvaluated& on_evaluated) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  const NoGradScope no_grad;
  const std::int64_t num_tokens = set.num_tokens(Split::validation);
  const std::vector<EvalBatch> batches =
      eval_batches(num_tokens, options.seq_len, options.micro_batch, options.max_batches);
  std::int64_t total = 0;
  for (const EvalBatch& batch : batches)
    total += static_cast<std::int64_t>(batch.positions.size()) * batch.length;

  Evaluation result;
  const std::size_t first = options.parallel ? options.parallel->rank() : 0;
  const std::size_t stride = options.parallel ? options.parallel->world_size() : 1;
  const TextBytes text_bytes(*set.tokenizer());
  // Of each batch nats and bytes, so that the order of summation is fixed.
  std::vector<double> sums(2 * batches.size());
  for (std::size_t round = 0; round < batches.size(); round += stride) {
    if (const std::size_t i = round + first; i < batches.size()) {
      const auto& [positions, length] = batches[i];
      const Batch batch = read_batch(set, Split::validation, positions, length);
      const ModelLosses losses =
          model.losses(batch.token_ids, batch.targets, 1, 0,
                       {.batch = batch.num_sequences, .seq_len = batch.seq_len});
      sums[2 * i] = losses.cross_entropy.data().item();
      sums[2 * i + 1] = static_cast<double>(text_bytes.of(batch));
      result.tokens += batch.num_tokens();
    }
    if (on_evaluated) on_evaluated(result.tokens, total);
  }
  if (options.parallel) options.parallel->sum(sums);
  for (std::size_t i = 0; i < batches.size(); ++i) {
    result.nats += sums[2 * i];
    result.bytes += sums[2 * i + 1];
  }
  result.tokens = total;
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return result;
}

}  // namespace smoe
