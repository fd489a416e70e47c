// Sampling: the next token from a row of logits.
#pragma once
#include <cstdint>
#include <span>

#include "core/random.h"

namespace smoe {

struct SamplingOptions {
  double temperature = 0.8;  ///< divides the logits; 0: always the likeliest token
  std::int64_t top_k = 0;    ///< only the k likeliest tokens; 0: all
  double top_p = 1;          ///< only the likeliest tokens that together reach this probability
};

/// Throws: UsageError unless temperature >= 0, top_k >= 0 and 0 < top_p <= 1.
void check_sampling(const SamplingOptions& options);

/// Draws a token id. top_k is applied first, then top_p on what is left, renormalised. Ties go to
/// the lower id. Throws: UsageError if a logit is NaN or none is finite.
std::int32_t sample_token(std::span<const double> logits, const SamplingOptions& options,
                          RandomStream& random);

}  // namespace smoe
