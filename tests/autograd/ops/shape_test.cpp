#include <doctest/doctest.h>

#include "autograd/ops.h"
#include "autograd/tape.h"
#include "tests/support/compare.h"
#include "tests/support/gradients.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr std::int64_t kRows[] = {0, 1, 2, 7, 33, 130};

}  // namespace

TEST_CASE("gradients of shape ops agree with central differences") {
  for (const std::int64_t rows : kRows) {
    const Tensor a = random_normal("a", {rows, 3}, DType::f64);
    const Tensor b = random_normal("b", {rows, 1}, DType::f64);
    const Tensor c = random_normal("c", {rows, 6}, DType::f64);
    check_gradients("reshape",
                    [&](const auto& x) {
                      return std::vector{reshape(x[0], {3, rows})};
                    },
                    {a});
    check_gradients("concat_columns",
                    [](const auto& x) {
                      return std::vector{concat_columns(std::vector<Variable>{x[0], x[1], x[2]})};
                    },
                    {a, b, c});
    check_gradients("concat_columns, one input twice",
                    [](const auto& x) {
                      return std::vector{concat_columns(std::vector<Variable>{x[0], x[0]})};
                    },
                    {a});
    check_gradients("split_columns",
                    [](const auto& x) {
                      return split_columns(x[0], std::vector<std::int64_t>{2, 1, 3});
                    },
                    {c});
    check_gradients("split_columns, one output unused",
                    [](const auto& x) {
                      auto parts = split_columns(x[0], std::vector<std::int64_t>{2, 1, 3});
                      return std::vector{parts[0], parts[2]};
                    },
                    {c});
  }
}

TEST_CASE("reshape copies nothing in either direction") {
  Tape tape;
  const TapeScope scope(tape);
  const Variable x = tape.watch(random_normal("x", {4, 6}, DType::f32));
  const Variable y = reshape(x, {8, 3});
  CHECK(y.data().shares_storage(x.data()));
  const Tensor dy = random_normal("dy", {8, 3}, DType::f32);
  const Tensor dx = tape.backward({y}, {dy}).of(x);
  CHECK(dx.shape() == Shape{4, 6});
  CHECK(dx.shares_storage(dy));
  CHECK_THROWS_AS(reshape(x, {5, 5}), UsageError);
}

TEST_CASE("concat_columns and split_columns are inverse, in every dtype") {
  const PoisonGuard poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
    for (const std::int64_t rows : kRows) {
      const Tensor x = random_normal("x", {rows, 11}, dtype);
      const std::vector<std::int64_t> widths{1, 8, 2};
      const std::vector<Variable> parts = split_columns(x, widths);
      REQUIRE(parts.size() == 3);
      std::int64_t first = 0;
      for (std::size_t i = 0; i < parts.size(); first += widths[i++]) {
        REQUIRE(parts[i].shape() == Shape{rows, widths[i]});
        std::vector<double> wanted;
        for (std::int64_t row = 0; row < rows; ++row)
          for (std::int64_t c = first; c < first + widths[i]; ++c)
            wanted.push_back(values_of(x)[row * 11 + c]);
        CHECK(values_of(parts[i].data()) == wanted);
      }
      check_same_bits("concat of split", concat_columns(parts).data(), x);
    }
}

TEST_CASE("shape ops name what does not fit") {
  const Variable x = random_normal("x", {2, 3}, DType::f32);
  const Variable y = random_normal("y", {3, 3}, DType::f32);
  CHECK_THROWS_WITH_AS(concat_columns(std::vector<Variable>{x, y}),
                       "concat_columns: matrices must have the same rows and dtype; got [3, 3] f32 "
                       "beside [2, 3] f32",
                       UsageError);
  CHECK_THROWS_WITH_AS(concat_columns({}),
                       "concat_columns: must have at least one matrix; got none", UsageError);
  CHECK_THROWS_WITH_AS(split_columns(x, std::vector<std::int64_t>{2, 2}),
                       "split_columns: widths must be positive and add up to the columns of x [2, "
                       "3]; got 2 widths that add up to 4",
                       UsageError);
  CHECK_THROWS_AS(split_columns(x, std::vector<std::int64_t>{4, -1}), UsageError);
  CHECK_THROWS_AS(split_columns(x, {}), UsageError);
}
