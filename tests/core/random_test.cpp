#include "core/random.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "core/base/check.h"
#include "core/base/normal.h"

using namespace smoe;

TEST_CASE("philox4x32-10 reproduces the known answers of Random123") {
  const auto zero = philox4x32({0, 0, 0, 0}, {0, 0});
  CHECK(zero == std::array<std::uint32_t, 4>{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
  const std::uint32_t f = 0xffffffffu;
  const auto ones = philox4x32({f, f, f, f}, {f, f});
  CHECK(ones == std::array<std::uint32_t, 4>{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu});
}

TEST_CASE("a stream is reproducible and depends on the seed and both identifiers") {
  const auto first = [](RandomStream stream) { return stream.next_u64(); };
  CHECK(first({1, 2, 3}) == first({1, 2, 3}));
  CHECK(first({1, 2, 3}) != first({2, 2, 3}));
  CHECK(first({1, 2, 3}) != first({1, 3, 3}));
  CHECK(first({1, 2, 3}) != first({1, 2, 4}));
  CHECK(first({1, 2, 3}) != first({1, 3, 2}));
}

TEST_CASE("uniform, below and normal have the mean and variance of their distribution") {
  RandomStream stream(42, hash_name("moments"));
  const int n = 200'000;
  double sum = 0, normal_sum = 0, normal_squares = 0;
  std::vector<int> counts(7);
  for (int i = 0; i < n; ++i) {
    const double u = stream.uniform();
    REQUIRE((u >= 0 && u < 1));
    sum += u;
    ++counts[stream.below(7)];
    const double z = stream.normal();
    normal_sum += z;
    normal_squares += z * z;
  }
  // Five standard errors each.
  CHECK(std::abs(sum / n - 0.5) < 5 * std::sqrt(1.0 / 12 / n));
  CHECK(std::abs(normal_sum / n) < 5 * std::sqrt(1.0 / n));
  CHECK(std::abs(normal_squares / n - 1) < 5 * std::sqrt(2.0 / n));
  for (const int count : counts) CHECK(std::abs(count - n / 7.0) < 5 * std::sqrt(n / 7.0));
}

TEST_CASE("a pair of normals is Box and Muller's, to the precision of a double") {
  const std::uint32_t f = ~std::uint32_t{0};
  std::vector<PhiloxWords> blocks = {
      {0, 0, 0, 0}, {f, f, f, f}, {f, f, 0, 0}, {0, 0x800, 0, 0x800}};
  for (std::uint32_t eighth = 0; eighth < 8; ++eighth)  // where quarters of a turn begin and end
    for (const std::uint32_t low : {0u, 0x800u, f}) {
      blocks.push_back({f - eighth, low, eighth << 29, low});
      blocks.push_back({eighth << 29, low, (eighth << 29) - 1, f});
    }
  const PhiloxStream stream(1, 2, 3);
  for (std::uint64_t i = 0; i < 100'000; ++i) blocks.push_back(stream.block(i));
  long double worst = 0;
  for (const PhiloxWords& words : blocks) {
    const auto uniform = [&](int i) {
      const std::uint64_t both = std::uint64_t{words[i]} << 32 | words[i + 1];
      return std::ldexp(static_cast<long double>(both >> 11), -53);
    };
    const long double radius = std::sqrt(-2 * std::log(1 - uniform(0)));
    const long double angle = 2 * std::numbers::pi_v<long double> * uniform(2);
    const NormalPair pair = normal_pair(words);
    // The angle's cosine may cancel; the error is relative to the radius.
    const long double unit = std::max(radius, std::numeric_limits<long double>::min());
    worst = std::max({worst, std::abs(pair.first - radius * std::cos(angle)) / unit,
                      std::abs(pair.second - radius * std::sin(angle)) / unit});
  }
  CHECK(worst < 4 * std::numeric_limits<double>::epsilon());
}

TEST_CASE("skip_to_normal moves to any pair of normals") {
  RandomStream stream(3, 4, 5);
  std::vector<double> all(100);
  for (double& value : all) value = stream.normal();
  for (const std::uint64_t start : {0, 2, 38, 98}) {
    RandomStream entered(3, 4, 5);
    entered.normal();
    entered.skip_to_normal(start);
    for (std::uint64_t i = start; i < all.size(); ++i) CHECK(entered.normal() == all[i]);
  }
  CHECK_THROWS_AS(stream.skip_to_normal(7), UsageError);
}
