#include "train/data/blend_schedule.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "core/random.h"
#include "tests/support/temporary_folder.h"

using namespace smoe;

namespace {

// The largest distance of a source's count from its share of the samples, over all numbers of
// samples up to `num_samples`. Also checks that indices are consecutive.
double worst_distance(const std::vector<double>& weights, std::int64_t num_samples) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<std::int64_t> counts(weights.size());
  double worst = 0;
  std::int64_t n = 0;
  for (const auto& [source, index] : BlendSchedule(weights).picks(0, num_samples)) {
    REQUIRE(source < weights.size());
    REQUIRE(index == counts[source]++);
    ++n;
    for (std::size_t s = 0; s < weights.size(); ++s) {
      const double due = weights[s] / sum * static_cast<double>(n);
      worst = std::max(worst, std::abs(static_cast<double>(counts[s]) - due));
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("each source has its share of all samples so far, to within one") {
  CHECK(worst_distance({1}, 1000) == 0);
  CHECK(worst_distance({1, 1}, 1000) <= 0.5 + 1e-9);
  CHECK(worst_distance({0.7, 0.3}, 20'000) <= 0.5 + 1e-6);
  CHECK(worst_distance({1e-6, 1}, 100'000) < 1);
  CHECK(worst_distance({3, 1e-9, 2, 1e-9}, 100'000) < 1);
  CHECK(worst_distance(std::vector<double>(64, 0.1), 10'000) < 1);
  RandomStream random(31, 1);
  for (int i = 0; i < 200; ++i) {
    std::vector<double> weights(2 + random.below(12));
    for (double& weight : weights) weight = std::exp2(-10 * random.uniform());
    // Known to be tight: 1 - 1 / (2 sources - 2).
    const double bound = 1 - 1.0 / static_cast<double>(2 * weights.size() - 2);
    CHECK(worst_distance(weights, 3000) <= bound + 1e-6);
  }
}

TEST_CASE("the order of sources depends only on the ratios of the weights") {
  const auto sources = [](const BlendSchedule& blend, std::int64_t first, std::int64_t count) {
    std::vector<std::int64_t> flat;
    for (const auto& [source, index] : blend.picks(first, count)) {
      flat.push_back(static_cast<std::int64_t>(source));
      flat.push_back(index);
    }
    return flat;
  };
  const BlendSchedule blend({5, 3, 1});
  const auto whole = sources(blend, 0, 1000);
  for (const std::int64_t first : {0, 990, 17, 500, 501, 0}) {
    const auto part = sources(blend, first, 10);
    CHECK(std::equal(part.begin(), part.end(), whole.begin() + 2 * first));
    CHECK(sources(BlendSchedule({5, 3, 1}), first, 10) == part);
    CHECK(sources(BlendSchedule({1.25, 0.75, 0.25}), first, 10) == part);
  }
  CHECK(sources(BlendSchedule({1, 3, 5}), 0, 100) != sources(blend, 0, 100));
  CHECK(blend.share(1) == doctest::Approx(1.0 / 3));
}

TEST_CASE("invalid weights are refused") {
  CHECK_THROWS_AS(BlendSchedule({}), UsageError);
  for (const double weight :
       {0.0, -1.0, 1e-13, std::nan(""), std::numeric_limits<double>::infinity()})
    CHECK(message_of([&] { BlendSchedule({1, weight}); }).starts_with("blend: "));
  const double most = std::numeric_limits<double>::max();
  CHECK_THROWS_AS(BlendSchedule({most, most}), UsageError);
}
