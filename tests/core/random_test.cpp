#include "core/random.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "core/base/check.h"

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
