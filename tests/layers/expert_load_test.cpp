#include "layers/expert_load.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "core/base/check.h"

using namespace smoe;

namespace {

ExpertLoad measure(const std::vector<std::int64_t>& rows) {
  return expert_load(rows);
}

}  // namespace

TEST_CASE("expert load: balance, collapse, and between") {
  struct Row {
    std::vector<std::int64_t> rows;
    double imbalance, entropy;
    std::int64_t dead;
  };
  const std::vector<Row> table = {
      {{5, 5, 5, 5}, 1, 1, 0},
      {{0, 20, 0, 0}, 4, 0, 3},
      {{10, 0, 10, 0}, 2, 0.5, 2},
      {{4, 2, 1, 1}, 2, 0.875, 0},
      {{7}, 1, 1, 0},
      {{0}, 0, 0, 1},
      {{0, 0, 0}, 0, 0, 3},
      {{3'000'000'000, 3'000'000'000}, 1, 1, 0},
  };
  for (const Row& row : table) {
    const ExpertLoad load = measure(row.rows);
    CHECK(load.imbalance == doctest::Approx(row.imbalance).epsilon(1e-15));
    CHECK(load.entropy == doctest::Approx(row.entropy).epsilon(1e-15));
    CHECK(load.dead == row.dead);
  }
}

TEST_CASE("expert load names counts that cannot be") {
  CHECK_THROWS_WITH_AS(measure({}), "expert_load: there must be an expert", UsageError);
  CHECK_THROWS_WITH_AS(measure({1, -2}), "expert_load: counts must not be negative; got -2",
                       UsageError);
}
