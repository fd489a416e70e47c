#include "train/data/sampler.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "core/base/check.h"

using namespace smoe;

namespace {

// The positions of whole epochs, one vector each.
std::vector<std::vector<std::int64_t>> epochs(const Sampler& sampler, int count) {
  std::vector<std::vector<std::int64_t>> result(1);
  for (std::int64_t step = 0;; ++step) {
    for (const std::int64_t position : sampler.batch(step)) {
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
      const Sampler sampler(11, num_tokens, seq_len, 5);
      REQUIRE(sampler.num_windows() >= 1);
      // At most one window's worth of tokens and the offset are left out.
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

TEST_CASE("offsets differ between epochs, so that all cuts of the text are seen") {
  const Sampler sampler(3, 1000, 10, 4);
  std::set<std::int64_t> offsets;
  for (const auto& order : epochs(sampler, 60)) offsets.insert(order[0] % 10);
  CHECK(offsets.size() == 10);
}

TEST_CASE("a step's batch depends on nothing but seed and step") {
  const Sampler sampler(5, 10'000, 32, 6);
  const auto tenth = sampler.batch(10);
  for (std::int64_t step = 0; step < 30; ++step) sampler.batch(step);
  CHECK(sampler.batch(10) == tenth);
  CHECK(Sampler(5, 10'000, 32, 6).batch(10) == tenth);
  CHECK(Sampler(6, 10'000, 32, 6).batch(10) != tenth);
  CHECK(Sampler(5, 10'000, 32, 6, "web").batch(10) != tenth);
  CHECK(sampler.positions(60, 6) == tenth);
  // The stream of samples is one for all batch sizes.
  const auto wide = Sampler(5, 10'000, 32, 12).batch(5);
  CHECK(std::equal(tenth.begin(), tenth.end(), wide.begin()));
}

TEST_CASE("the first window of an epoch is any window equally often") {
  for (const std::int64_t windows : {2, 3, 5, 16, 17}) {
    const Sampler sampler(9, windows * 8 + 8, 8, windows);
    REQUIRE(sampler.num_windows() == windows);
    std::vector<int> counts(windows);
    const int n = 4000;
    for (int epoch = 0; epoch < n; ++epoch) ++counts[sampler.batch(epoch)[0] / 8];
    const double mean = static_cast<double>(n) / static_cast<double>(windows);
    for (const int count : counts) CHECK(std::abs(count - mean) < 5 * std::sqrt(mean));
  }
}

TEST_CASE("a set smaller than a batch repeats its windows epoch by epoch") {
  const Sampler one(1, 9, 8, 4);
  CHECK(one.num_windows() == 1);
  CHECK(one.batch(0) == std::vector<std::int64_t>(4, 0));
  const Sampler three(1, 32, 8, 8);
  CHECK(three.num_windows() == 3);
  CHECK(three.batch(0).size() == 8);
  CHECK(three.epochs_before(3) == doctest::Approx(8));
  CHECK_THROWS_AS(Sampler(1, 8, 8, 1), UsageError);
  CHECK_THROWS_AS(Sampler(1, 9, 0, 1), UsageError);
}

TEST_CASE("large sets have far positions") {
  const std::int64_t num_tokens = std::int64_t{1} << 45;
  const Sampler sampler(1, num_tokens, 2048, 1 << 10);
  std::set<std::int64_t> seen;
  std::int64_t largest = 0;
  for (const std::int64_t position : sampler.batch(123'456'789)) {
    CHECK((position >= 0 && position + 2049 <= num_tokens));
    seen.insert(position);
    largest = std::max(largest, position);
  }
  CHECK(seen.size() == 1 << 10);
  CHECK(largest > num_tokens / 2);
}

TEST_CASE("evaluation predicts every token but the first exactly once") {
  for (const std::int64_t num_tokens : {2, 3, 8, 9, 10, 17, 18, 100, 129}) {
    CAPTURE(num_tokens);
    std::vector<int> predicted(num_tokens);
    for (const EvalBatch& batch : eval_batches(num_tokens, 8, 3, 0)) {
      CHECK((batch.positions.size() >= 1 && batch.positions.size() <= 3));
      for (const std::int64_t position : batch.positions)
        for (std::int64_t i = 1; i <= batch.length; ++i) ++predicted.at(position + i);
    }
    CHECK(predicted[0] == 0);
    CHECK(std::count(predicted.begin() + 1, predicted.end(), 1) == num_tokens - 1);
  }
  CHECK_THROWS_AS(eval_batches(1, 8, 3, 0), UsageError);
}

TEST_CASE("a limited evaluation takes whole batches spread over the stream") {
  const auto batches = eval_batches(1001, 10, 4, 5);  // 100 windows, 20 of them
  REQUIRE(batches.size() == 5);
  std::vector<std::int64_t> positions;
  for (const EvalBatch& batch : batches) {
    CHECK(batch.positions.size() == 4);
    CHECK(batch.length == 10);
    positions.insert(positions.end(), batch.positions.begin(), batch.positions.end());
  }
  for (std::size_t i = 0; i < positions.size(); ++i)
    CHECK(positions[i] == static_cast<std::int64_t>(50 * i));
  CHECK(eval_batches(1001, 10, 4, 1000).size() == 25);
}
