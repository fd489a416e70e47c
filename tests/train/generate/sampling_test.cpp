#include "train/generate/sampling.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/base/check.h"

using namespace smoe;

namespace {

const std::vector<double> kLogits{std::log(0.1), std::log(0.4), std::log(0.2), std::log(0.3)};

// The relative frequency of each token in `n` samples.
std::vector<double> shares(const SamplingOptions& options, int n = 40'000) {
  RandomStream random(3, hash_name("sampling"));
  std::vector<double> counts(kLogits.size());
  for (int i = 0; i < n; ++i) ++counts[sample_token(kLogits, options, random)];
  for (double& count : counts) count /= n;
  return counts;
}

void check_shares(const std::vector<double>& got, const std::vector<double>& expected) {
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    // Five standard errors of 40,000 samples.
    CHECK(std::abs(got[i] - expected[i]) <=
          5 * std::sqrt(expected[i] * (1 - expected[i]) / 40'000));
  }
}

}  // namespace

TEST_CASE("tokens are sampled with their probabilities") {
  check_shares(shares({.temperature = 1}), {0.1, 0.4, 0.2, 0.3});
  check_shares(shares({.temperature = 0.5}), {0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0.09 / 0.3});
  check_shares(shares({.temperature = 1, .top_k = 2}), {0, 0.4 / 0.7, 0, 0.3 / 0.7});
  check_shares(shares({.temperature = 1, .top_p = 0.75}), {0, 0.4 / 0.9, 0.2 / 0.9, 0.3 / 0.9});
  check_shares(shares({.temperature = 1, .top_p = 1e-9}), {0, 1, 0, 0});
  check_shares(shares({.temperature = 0}), {0, 1, 0, 0});
}

TEST_CASE("ties, invalid options and invalid logits") {
  RandomStream random(0, 0);
  const std::vector<double> tie{1, 2, 2};
  CHECK(sample_token(tie, {.temperature = 0}, random) == 1);
  CHECK_THROWS_AS(check_sampling({.temperature = -1}), UsageError);
  CHECK_THROWS_AS(check_sampling({.top_k = -1}), UsageError);
  CHECK_THROWS_AS(check_sampling({.top_p = 0}), UsageError);
  const std::vector<double> nan{0, std::numeric_limits<double>::quiet_NaN()};
  CHECK_THROWS_WITH_AS(sample_token(nan, {}, random), "generate: the model's logits contain NaN",
                       UsageError);
}
