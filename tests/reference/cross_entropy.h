// Cross-entropy of the next token and its gradient in double.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace reference {

struct CrossEntropy {
  std::vector<double> losses;   // [T]
  std::vector<double> dlogits;  // [T, V], of scale * sum of losses
};

/// Targets of -1 are ignored.
inline CrossEntropy cross_entropy(std::int64_t vocabulary, const std::vector<double>& logits,
                                  const std::vector<std::int32_t>& targets, double scale) {
  CrossEntropy result{{}, std::vector<double>(logits.size(), 0)};
  for (std::size_t t = 0; t < targets.size(); ++t) {
    const double* row = logits.data() + t * vocabulary;
    if (targets[t] == -1) {
      result.losses.push_back(0);
      continue;
    }
    const double largest = *std::max_element(row, row + vocabulary);
    double sum = 0;
    for (std::int64_t v = 0; v < vocabulary; ++v) sum += std::exp(row[v] - largest);
    result.losses.push_back(largest + std::log(sum) - row[targets[t]]);
    for (std::int64_t v = 0; v < vocabulary; ++v)
      result.dlogits[t * vocabulary + v] =
          scale * (std::exp(row[v] - largest) / sum - (v == targets[t] ? 1 : 0));
  }
  return result;
}

}  // namespace reference
