#include <doctest/doctest.h>

#include "autograd/ops.h"
#include "autograd/tape.h"
#include "tests/support/compare.h"
#include "tests/support/gradients.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr std::int64_t kRows[] = {0,  1,  2,  3,  4,  5,  7,  8,  9,  15,
                                  16, 17, 31, 32, 33, 63, 64, 65, 99, 130};

Tensor scalar(double value, DType dtype = DType::f64) {
  return tensor_of({value}, {1}, dtype);
}

}  // namespace

TEST_CASE("add's and jitter's gradients agree with central differences") {
  for (const std::int64_t rows : kRows) {
    const Tensor a = random_normal("a", {rows, 3}, DType::f64);
    const Tensor b = random_normal("b", {rows, 3}, DType::f64);
    check_gradients("add", [](const auto& x) { return std::vector{add(x[0], x[1])}; }, {a, b});
    check_gradients("add, one input twice",
                    [](const auto& x) { return std::vector{add(x[0], x[0])}; }, {a});
    check_gradients("jitter",
                    [](const auto& x) { return std::vector{jitter(x[0], 0.25, 1, 2, 3)}; }, {a});
    check_gradients("scale", [](const auto& x) { return std::vector{scale(x[0], -0.7)}; }, {a});
    check_gradients("dropout",
                    [](const auto& x) { return std::vector{dropout(x[0], 0.3, 1, 2, 3)}; }, {a});
  }
}

TEST_CASE("scalars of any number are gathered and weighted in order, in double") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    std::vector<Variable> scalars;
    std::vector<double> weights, wanted;
    for (int i = 0; i < 300; ++i) {
      scalars.push_back(scalar(i - 7.5, dtype));
      weights.push_back(1.0 / (1 + i));
      wanted.push_back((i - 7.5) * weights.back());
    }
    const Tensor values = Tensor::zeros({300}, DType::f64);
    gather_scalars(scalars, weights, values);
    CHECK(values_of(values) == wanted);
    CHECK_THROWS_AS(gather_scalars(scalars, weights, values.view(0, {299})), UsageError);
    double sum = 0;
    for (const double value : wanted) sum += value;
    CHECK(weighted_sum(scalars, weights).data().item() ==
          doctest::Approx(sum).epsilon(dtype == DType::f32 ? 1e-4 : 1e-12));
  }
}

TEST_CASE("jitter multiplies by its random stream and is the identity at epsilon zero") {
  const Tensor x = random_normal("x", {1000}, DType::f32);
  const auto before = values_of(x);
  const auto once = values_of(jitter(x, 0.1, 1, 2, 3).data());
  CHECK(values_of(x) == before);
  CHECK(values_of(jitter(x, 0.1, 1, 2, 3).data()) == once);
  CHECK(values_of(jitter(x, 0.1, 1, 2, 4).data()) != once);
  CHECK(values_of(jitter(x, 0, 1, 2, 3).data()) == before);
  CHECK_THROWS_WITH_AS(jitter(x, 1.5, 1, 2, 3), "jitter: epsilon must be in [0, 1); got 1.5",
                       UsageError);
}

TEST_CASE("dropout zeroes its share of elements, scales the others, and depends on its stream") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Tensor x = tensor_of(std::vector<double>(20000, 1.0), {20000}, dtype);
    const auto once = values_of(dropout(x, 0.25, 1, 2, 3).data());
    CHECK(values_of(dropout(x, 0.25, 1, 2, 3).data()) == once);
    CHECK(values_of(dropout(x, 0.25, 1, 2, 4).data()) != once);
    const double kept = values_of(tensor_of({1 / 0.75}, {1}, dtype))[0];
    std::int64_t num_zeros = 0;
    for (const double value : once) {
      CHECK((value == 0 || value == kept));
      num_zeros += value == 0;
    }
    CHECK(num_zeros / 20000.0 == doctest::Approx(0.25).epsilon(0.05));
    CHECK(values_of(dropout(x, 0, 1, 2, 3).data()) == values_of(x));
  }
  CHECK_THROWS_WITH_AS(dropout(scalar(1), 1.0, 1, 2, 3),
                       "dropout: probability must be in [0, 1); got 1", UsageError);
}

TEST_CASE("add rejects invalid arguments") {
  CHECK_THROWS_WITH_AS(add(Tensor::zeros({2}, DType::f32), Tensor::zeros({2}, DType::bf16)),
                       "add: a and b must have one shape and dtype; got [2] f32 and [2] bf16",
                       UsageError);
  CHECK_THROWS_AS(add(Tensor::zeros({2}, DType::f32), Tensor::zeros({3}, DType::f32)), UsageError);
}

TEST_CASE("the gradient of each term of weighted_sum is its weight") {
  for (int n = 1; n <= 20; ++n) {
    std::vector<Tensor> inputs;
    std::vector<double> weights;
    for (int i = 0; i < n; ++i) {
      inputs.push_back(random_normal("term " + std::to_string(i), {1}, DType::f64));
      weights.push_back(i % 3 == 0 ? 1 : 0.5 - i);
    }
    check_gradients(
        "weighted_sum",
        [&](const auto& terms) { return std::vector{weighted_sum(terms, weights)}; }, inputs);
  }
  const Variable terms[] = {scalar(2), scalar(3)};
  CHECK(weighted_sum(terms, std::vector<double>{1, -0.5}).data().item() == 0.5);
}

TEST_CASE("only a term of weight one gets the unit gradient from weighted_sum") {
  Tape tape;
  const TapeScope scope(tape);
  std::vector<bool> is_unit;
  const auto probe = [&](double value) {
    const Variable x = tape.watch(scalar(value));
    return record("probe", scalar(value), {&x}, {}, [&](Tensor dy, InputGradients& out) {
      is_unit.push_back(out.is_unit(dy));
      out.give(0, dy);
    });
  };
  const Variable inner[] = {probe(1), probe(2)};
  const Variable outer[] = {weighted_sum(inner, std::vector<double>{1, 3}), probe(3)};
  tape.backward(weighted_sum(outer, std::vector<double>{1, 0.5}));
  // In reverse order of recording: the outer probe, then the inner ones.
  CHECK(is_unit == std::vector<bool>{false, false, true});
}

TEST_CASE("weighted_sum rejects invalid arguments") {
  const Variable one[] = {scalar(1)};
  CHECK_THROWS_WITH_AS(weighted_sum(one, std::vector<double>{1, 2}),
                       "weighted_sum: must have at least one scalar and one weight per scalar; got "
                       "1 scalars and 2 weights",
                       UsageError);
  CHECK_THROWS_AS(weighted_sum({}, {}), UsageError);
  const Variable mixed[] = {scalar(1), scalar(1, DType::f32)};
  CHECK_THROWS_AS(weighted_sum(mixed, std::vector<double>{1, 1}), UsageError);
  const Variable vector[] = {Tensor::zeros({2}, DType::f32)};
  CHECK_THROWS_AS(weighted_sum(vector, std::vector<double>{1}), UsageError);
}
