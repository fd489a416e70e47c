#include "train/data/window_sampler.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "core/base/check.h"

using namespace smoe;

namespace {

// The positions of the first epochs, one vector per epoch, read in batches of five.
std::vector<std::vector<std::int64_t>> epochs(const WindowSampler& sampler, int count) {
  std::vector<std::vector<std::int64_t>> result(1);
  for (std::int64_t first = 0;; first += 5) {
    for (const std::int64_t position : sampler.positions(first, 5)) {
      if (static_cast<std::int64_t>(result.back().size()) == sampler.num_windows()) {
        if (static_cast<int>(result.size()) == count) return result;
        result.emplace_back();
      }
      result.back().push_back(position);
    }
  }
}

}  // namespace

TEST_CASE("each epoch visits every window once, inside the stream, in another order") {
  for (const std::int64_t seq_len : {1, 7, 64}) {
    for (const std::int64_t num_tokens : {65, 66, 127, 128, 129, 1000, 4097}) {
      CAPTURE(seq_len);
      CAPTURE(num_tokens);
      const WindowSampler sampler(11, num_tokens, seq_len);
      REQUIRE(sampler.num_windows() >= 1);
      // At most one window's tokens and the offset are skipped.
      CHECK(sampler.num_windows() * seq_len >= num_tokens - 2 * seq_len);
      const auto orders = epochs(sampler, 3);
      for (auto order : orders) {
        std::sort(order.begin(), order.end());
        CHECK((order.front() >= 0 && order.front() < seq_len));
        CHECK(order.back() + seq_len + 1 <= num_tokens);
        for (std::size_t i = 1; i < order.size(); ++i) CHECK(order[i] == order[i - 1] + seq_len);
      }
      if (sampler.num_windows() > 8) {
        CHECK(orders[0] != orders[1]);
        CHECK(orders[1] != orders[2]);
        CHECK(!std::is_sorted(orders[0].begin(), orders[0].end()));
      }
    }
  }
}

TEST_CASE("offsets differ between epochs and cover all values") {
  const WindowSampler sampler(3, 1000, 10);
  std::set<std::int64_t> offsets;
  for (const auto& order : epochs(sampler, 60)) offsets.insert(order[0] % 10);
  CHECK(offsets.size() == 10);
}

TEST_CASE("positions depend only on seed, name and index") {
  const WindowSampler sampler(5, 10'000, 32);
  const auto part = sampler.positions(60, 6);
  const auto whole = sampler.positions(0, 200);
  CHECK(std::equal(part.begin(), part.end(), whole.begin() + 60));
  CHECK(sampler.positions(60, 6) == part);
  CHECK(WindowSampler(5, 10'000, 32).positions(60, 6) == part);
  CHECK(WindowSampler(6, 10'000, 32).positions(60, 6) != part);
  CHECK(WindowSampler(5, 10'000, 32, "web").positions(60, 6) != part);
}

TEST_CASE("the first window of an epoch is uniformly distributed") {
  for (const std::int64_t windows : {2, 3, 5, 16, 17}) {
    const WindowSampler sampler(9, windows * 8 + 8, 8);
    REQUIRE(sampler.num_windows() == windows);
    std::vector<int> counts(windows);
    const int n = 4000;
    for (int epoch = 0; epoch < n; ++epoch) ++counts[sampler.positions(epoch * windows, 1)[0] / 8];
    const double mean = static_cast<double>(n) / static_cast<double>(windows);
    for (const int count : counts) CHECK(std::abs(count - mean) < 5 * std::sqrt(mean));
  }
}

TEST_CASE("a short stream repeats its windows epoch by epoch") {
  const WindowSampler one(1, 9, 8);
  CHECK(one.num_windows() == 1);
  CHECK(one.positions(0, 4) == std::vector<std::int64_t>(4, 0));
  const WindowSampler three(1, 32, 8);
  CHECK(three.num_windows() == 3);
  CHECK(three.positions(0, 8).size() == 8);
  CHECK_THROWS_AS(WindowSampler(1, 8, 8), UsageError);
  CHECK_THROWS_AS(WindowSampler(1, 9, 0), UsageError);
}

TEST_CASE("large streams have large positions") {
  const std::int64_t num_tokens = std::int64_t{1} << 45;
  const WindowSampler sampler(1, num_tokens, 2048);
  std::set<std::int64_t> seen;
  std::int64_t largest = 0;
  for (const std::int64_t position : sampler.positions(std::int64_t{123'456'789} << 10, 1 << 10)) {
    CHECK((position >= 0 && position + 2049 <= num_tokens));
    seen.insert(position);
    largest = std::max(largest, position);
  }
  CHECK(seen.size() == 1 << 10);
  CHECK(largest > num_tokens / 2);
}
