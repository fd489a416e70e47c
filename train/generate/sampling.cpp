#include "train/generate/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/base/check.h"

namespace smoe {

void check_sampling(const SamplingOptions& o) {
  SMOE_CHECK(o.temperature >= 0 && std::isfinite(o.temperature),
             "generate: temperature must be 0 or more; got ", o.temperature);
  SMOE_CHECK(o.top_k >= 0, "generate: top_k must be 0 or more; got ", o.top_k);
  SMOE_CHECK(o.top_p > 0 && o.top_p <= 1, "generate: top_p must be above 0 and at most 1; got ",
             o.top_p);
}

std::int32_t sample_token(std::span<const double> logits, const SamplingOptions& options,
                          RandomStream& random) {
  for (const double logit : logits)
    SMOE_CHECK(!std::isnan(logit), "generate: the model's logits contain NaN");
  std::vector<std::int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(),
                   [&](std::int32_t a, std::int32_t b) { return logits[a] > logits[b]; });
  SMOE_CHECK(!ids.empty() && std::isfinite(logits[ids[0]]), "generate: no logit is finite");
  if (options.temperature == 0) return ids[0];
  if (options.top_k > 0 && options.top_k < static_cast<std::int64_t>(ids.size()))
    ids.resize(options.top_k);

  std::vector<double> weights;
  for (const std::int32_t id : ids)
    weights.push_back(std::exp((logits[id] - logits[ids[0]]) / options.temperature));
  const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
  double kept = 0;
  std::size_t count = 0;
  while (count < weights.size() && kept < options.top_p * all) kept += weights[count++];

  double draw = random.uniform() * kept;
  for (std::size_t i = 0; i < count; ++i)
    if ((draw -= weights[i]) < 0) return ids[i];
  return ids[count - 1];
}

}  // namespace smoe
