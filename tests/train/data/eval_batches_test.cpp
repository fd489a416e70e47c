#include "train/data/eval_batches.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "core/base/check.h"

using namespace smoe;

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

TEST_CASE("a limited evaluation selects full batches spread over the stream") {
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
