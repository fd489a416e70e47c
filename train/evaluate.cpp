#include "train/evaluate.h"

#include <chrono>
#include <cmath>
#include <numbers>

#include "autograd/tape.h"
#include "train/data/batch.h"
#include "train/data/eval_batches.h"

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
  std::vector<double> nats(batches.size());  // per batch, so that the order of summation is fixed
  for (std::size_t round = 0; round < batches.size(); round += stride) {
    if (const std::size_t i = round + first; i < batches.size()) {
      const auto& [positions, length] = batches[i];
      const Batch batch = read_batch(set, Split::validation, positions, length);
      const ModelLosses losses =
          model.losses(batch.token_ids, batch.targets, 1, 0,
                       {.batch = batch.num_sequences, .seq_len = batch.seq_len});
      nats[i] = losses.cross_entropy.data().item();
      result.tokens += batch.num_tokens();
    }
    if (on_evaluated) on_evaluated(result.tokens, total);
  }
  if (options.parallel) options.parallel->sum(nats);
  for (const double one : nats) result.nats += one;
  result.tokens = total;
  result.bytes = static_cast<double>(set.num_bytes(Split::validation)) *
                 static_cast<double>(result.tokens) / static_cast<double>(num_tokens - 1);
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return result;
}

}  // namespace smoe
