#include "train/data/eval_batches.h"

#include "core/base/check.h"

namespace smoe {

std::vector<EvalBatch> eval_batches(std::int64_t num_tokens, std::int64_t seq_len,
                                    std::int64_t micro_batch, std::int64_t max_batches) {
  SMOE_CHECK(seq_len > 0 && micro_batch > 0 && max_batches >= 0,
             "eval_batches: seq_len and micro_batch must be positive; got ", seq_len, " and ",
             micro_batch);
  SMOE_CHECK(num_tokens >= 2, "eval_batches: the stream must have at least two tokens; got ",
             num_tokens);
  const std::int64_t num_targets = num_tokens - 1;
  const std::int64_t num_whole = num_targets / seq_len;
  const bool is_limited = max_batches > 0 && num_whole / micro_batch >= max_batches;
  const std::int64_t num_chosen = is_limited ? max_batches * micro_batch : num_whole;
  std::vector<EvalBatch> batches;
  for (std::int64_t i = 0; i < num_chosen; ++i) {
    if (i % micro_batch == 0) batches.push_back({{}, seq_len});
    // i * num_whole / num_chosen without overflow; i if all windows are selected.
    const std::int64_t window =
        i * (num_whole / num_chosen) + i * (num_whole % num_chosen) / num_chosen;
    batches.back().positions.push_back(window * seq_len);
  }
  const std::int64_t rest = num_targets % seq_len;
  if (!is_limited && rest > 0) batches.push_back({{num_whole * seq_len}, rest});
  return batches;
}

}  // namespace smoe
