// Sampling of the next token from a row of logits.
#pragma once
#include <cstdint>
#include <span>

#include "core/random.h"

namespace smoe {

struct SamplingOptions {
  double temperature = 0.8;  ///< divides the logits; 0: greedy
  std::int64_t top_k = 0;    ///< sample from the k most likely tokens; 0: all
  double top_p = 1;          ///< sample from the smallest set with this probability
};

/// Throws: UsageError unless temperature >= 0, top_k >= 0 and 0 < top_p <= 1.
void check_sampling(const SamplingOptions& options);

/// Samples a token id. top_k is applied first, then top_p to the renormalized rest. Ties go to the
/// lower id. Throws: UsageError if a logit is NaN or none is finite.
std::int32_t sample_token(std::span<const double> logits, const SamplingOptions& options,
                          RandomStream& random);

}  // namespace smoe
