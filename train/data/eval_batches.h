// How an evaluation covers a validation stream.
#pragma once
#include <cstdint>
#include <vector>

namespace smoe {

/// Windows that are evaluated together: their first tokens, and `length` targets each.
struct EvalBatch {
  std::vector<std::int64_t> positions;
  std::int64_t length = 0;
};

/// Consecutive windows of `seq_len` targets over a validation stream, in batches of at most
/// `micro_batch` windows; the remainder of the stream is a last batch with one shorter window.
/// Every token but the first (an end-of-text token without a predecessor) is the target of exactly
/// one prediction, so the sum of the losses divided by the text's bytes is its bits per byte.
/// `max_batches` > 0 selects that many full batches, spread evenly over the stream, if there are
/// more.
/// Throws: UsageError when the stream has fewer than two tokens.
std::vector<EvalBatch> eval_batches(std::int64_t num_tokens, std::int64_t seq_len,
                                    std::int64_t micro_batch, std::int64_t max_batches);

}  // namespace smoe
