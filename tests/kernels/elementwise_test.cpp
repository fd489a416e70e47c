#include "kernels/elementwise.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/device.h"
#include "core/random.h"
#include "kernels/copy_matrix.h"
#include "tests/kernels/elementwise_cases.h"
#include "tests/support/compare.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr DType kDtypes[] = {DType::f32, DType::f64, DType::bf16};
// Around the block size, 2^15 elements, and a Philox block of four words.
constexpr std::int64_t kSizes[] = {0, 1, 3, 4, 5, 1000, 32767, 32768, 32769, 70001};

std::vector<double> rounded(std::vector<double> values, DType dtype) {
  return values_of(tensor_of(values, {static_cast<std::int64_t>(values.size())}, dtype));
}

}  // namespace

TEST_CASE("add rounds once, also in place") {
  const PoisonGuard poison;
  for (const DType dtype : kDtypes)
    for (const std::int64_t n : kSizes) {
      const ElementwiseCase c(n, dtype);
      std::vector<double> wanted = values_of(c.x);
      const std::vector<double> other = values_of(c.y);
      for (std::int64_t i = 0; i < n; ++i)
        wanted[i] = dtype == DType::f64 ? wanted[i] + other[i] : float(wanted[i]) + float(other[i]);
      const Tensor sum = c.add();
      CHECK(values_of(sum) == rounded(wanted, dtype));
      check_same_bits("add over y", c.add_in_place(), sum);
      kernels::add(launch(), {c.x.data(), c.x.data(), c.x.data(), dtype, n});
      CHECK(values_of(c.x) == values_of(ElementwiseCase(n, dtype).scale(dtype, 2)));
    }
}

TEST_CASE("scale converts between all pairs of dtypes and rounds once") {
  const PoisonGuard poison;
  for (const DType from : kDtypes)
    for (const DType to : kDtypes)
      for (const double factor : {1.0, -0.3}) {
        const ElementwiseCase c(1000, from);
        std::vector<double> wanted = values_of(c.x);
        const bool in_double = from == DType::f64 || to == DType::f64;
        for (double& value : wanted)
          value = in_double ? factor * value : float(factor) * float(value);
        CHECK(values_of(c.scale(to, factor)) == rounded(wanted, to));
      }
}

TEST_CASE("scale with beta rounds after it has added") {
  const PoisonGuard poison;
  for (const DType from : kDtypes)
    for (const DType to : kDtypes) {
      const ElementwiseCase c(1000, from);
      std::vector<double> wanted = values_of(c.x);
      const std::vector<double> before = rounded(values_of(random_normal("y", {1000}, to)), to);
      const bool in_double = from == DType::f64 || to == DType::f64;
      for (std::size_t i = 0; i < wanted.size(); ++i)
        wanted[i] = in_double ? 2 * wanted[i] + before[i] : 2 * float(wanted[i]) + float(before[i]);
      CHECK(values_of(c.scale(to, 2, 1)) == rounded(wanted, to));
    }
}

TEST_CASE("scale works in place") {
  const Tensor x = tensor_of({1, -2, 3}, {3}, DType::bf16);
  kernels::scale(launch(), {x.data(), DType::bf16, x.data(), DType::bf16, 3, 0.5});
  CHECK(values_of(x) == std::vector<double>{0.5, -1, 1.5});
}

TEST_CASE("fill sets every element of its range and no other") {
  for (const DType dtype : kDtypes)
    for (const std::int64_t n : kSizes) {
      CHECK(values_of(ElementwiseCase(n, dtype).fill(-1.5)) == std::vector<double>(n, -1.5));
      if (n == 0) continue;
      const ElementwiseCase c(n, dtype, 1);
      CHECK(values_of(c.fill(-1.5))[0] == values_of(c.x)[0]);
    }
}

TEST_CASE("fill_normal draws what the stream draws, and nothing before its elements") {
  const PoisonGuard poison;
  for (const std::int64_t n : kSizes)
    for (const std::int64_t first : {0, 2, 70'000}) {
      const std::int64_t skip = std::min<std::int64_t>(n, 1);
      const ElementwiseCase c(n, DType::f64, skip);
      RandomStream stream(5, 6, 7);
      stream.skip_to_normal(first);
      std::vector<double> wanted = values_of(c.x);
      for (std::int64_t i = skip; i < n; ++i) wanted[i] = 0.02 * stream.normal();
      CHECK(values_of(c.fill_normal(0.02, first)) == wanted);
    }
}

TEST_CASE("jitter multiplies by the words of its stream") {
  const PoisonGuard poison;
  constexpr double kEpsilon = 0.25;
  for (const std::int64_t n : kSizes) {
    const ElementwiseCase c(n, DType::f64);
    RandomStream stream(5, 6, 7);
    std::vector<double> wanted = values_of(c.x);
    for (double& value : wanted)
      value *= 1 - kEpsilon + 2 * kEpsilon * (stream.next_u32() * 0x1p-32);
    const Tensor y = c.jitter(kEpsilon);
    CHECK(values_of(y) == wanted);
    check_same_bits("jitter in place", c.jitter_in_place(kEpsilon), y);
  }
}

TEST_CASE("jitter's factors are uniform in their interval") {
  constexpr std::int64_t kCount = 100000;
  const Tensor x = Tensor::empty({kCount}, DType::f64);
  kernels::fill(launch(), {x.data(), DType::f64, kCount, 1.0});
  kernels::jitter(launch(), {x.data(), x.data(), DType::f64, kCount, 0.1, 1, 2, 3});
  double sum = 0, squares = 0;
  bool is_inside = true;
  for (const double factor : values_of(x)) {
    is_inside = is_inside && factor >= 0.9 && factor < 1.1;
    sum += factor - 1;
    squares += (factor - 1) * (factor - 1);
  }
  CHECK(is_inside);
  CHECK(std::abs(sum / kCount) < 0.001);
  CHECK(squares / kCount == doctest::Approx(0.1 * 0.1 / 3).epsilon(0.02));
}

TEST_CASE("scalars are summed with weights and gathered in double") {
  const PoisonGuard poison;
  for (const std::int64_t n : {1, 2, 128, 300})
    for (const DType dtype : {DType::f32, DType::f64}) {
      const ScalarCase c(n, dtype);
      const std::vector<double> x = values_of(c.x);
      std::vector<double> wanted;
      double sum = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        wanted.push_back(c.weights[i] * x[3 * i + 1]);
        sum += wanted.back();
      }
      CHECK(values_of(c.gather()) == wanted);
      check_close("weighted_sum", c.weighted_sum(), {sum}, {.sum_length = n * n});
    }
}

TEST_CASE("dropout keeps the elements whose words are not below the threshold, also in place") {
  const PoisonGuard poison;
  for (const std::int64_t n : kSizes) {
    const Tensor x = random_normal("x", {n}, DType::f64), y = Tensor::empty_like(x);
    kernels::dropout(launch(), {x.data(), y.data(), DType::f64, n, 0.25, 5, 6, 7});
    RandomStream stream(5, 6, 7);
    std::vector<double> wanted = values_of(x);
    for (double& value : wanted)
      value = stream.next_u32() < (std::uint32_t{1} << 30) ? 0 : value * (1 / 0.75);
    CHECK(values_of(y) == wanted);
    kernels::dropout(launch(), {x.data(), x.data(), DType::f64, n, 0.25, 5, 6, 7});
    check_same_bits("dropout in place", x, y);
  }
}

TEST_CASE("scale_by multiplies by a scalar in memory") {
  const PoisonGuard poison;
  for (const DType dtype : kDtypes)
    for (const std::int64_t n : kSizes) {
      const Tensor scalar = tensor_of({-0.3}, {1}, accumulation_dtype(dtype));
      const double by = 2.5 * values_of(scalar)[0];
      const Tensor x = random_normal("x", {n}, dtype), y = Tensor::empty_like(x);
      kernels::scale_by(launch(), {x.data(), y.data(), dtype, n, scalar.data(), 2.5});
      std::vector<double> wanted = values_of(x);
      for (double& value : wanted) value *= by;
      check_close("scale_by", y, wanted, {.sum_length = 0, .factor = 2});
      kernels::scale_by(launch(), {nullptr, y.data(), dtype, n, scalar.data(), 2.5});
      check_close("scale_by of ones", y, std::vector<double>(n, by),
                  {.sum_length = 0, .factor = 2});
    }
}

TEST_CASE("differences are squared in the accumulation dtype, and scaled with one rounding") {
  const PoisonGuard poison;
  for (const DType dtype : kDtypes)
    for (const std::int64_t n : kSizes) {
      const Tensor a = random_normal("a", {n}, dtype), b = random_normal("b", {n}, dtype);
      const Tensor squares = Tensor::empty({n}, accumulation_dtype(dtype));
      const Tensor difference = Tensor::empty_like(a);
      kernels::squared_difference(launch(), {a.data(), b.data(), squares.data(), dtype, n});
      kernels::scaled_difference(launch(), {a.data(), b.data(), difference.data(), dtype, n, -3});
      std::vector<double> wanted = values_of(a), wanted_squares = wanted;
      const std::vector<double> other = values_of(b);
      for (std::int64_t i = 0; i < n; ++i) {
        wanted[i] = -3 * (wanted[i] - other[i]);
        wanted_squares[i] = (wanted_squares[i] - other[i]) * (wanted_squares[i] - other[i]);
      }
      check_close("squared_difference", squares, wanted_squares, {.sum_length = 0});
      check_close("scaled_difference", difference, wanted, {.sum_length = 0});
      kernels::scaled_difference(launch(), {a.data(), b.data(), a.data(), dtype, n, -3});
      check_same_bits("scaled_difference in place", a, difference);
    }
}

TEST_CASE("copy_matrix copies columns between row strides") {
  const PoisonGuard poison;
  for (const DType dtype : kDtypes)
    for (const std::int64_t rows : {0, 1, 5, 4099})
      for (const std::int64_t width : {0, 1, 8, 9}) {
        const Tensor x = random_normal("x", {rows, 11}, dtype);
        const Tensor y = tensor_of(std::vector<double>(rows * 12, -7.0), {rows, 12}, dtype);
        kernels::copy_matrix(launch(),
                             {matrix_of(x).columns(2, width), matrix_of(y).columns(3, width)});
        std::vector<double> wanted(rows * 12, -7.0);
        const std::vector<double> source = values_of(x);
        for (std::int64_t i = 0; i < rows; ++i)
          for (std::int64_t c = 0; c < width; ++c) wanted[i * 12 + 3 + c] = source[i * 11 + 2 + c];
        CHECK(values_of(y) == wanted);
      }
}

TEST_CASE("elementwise bits do not depend on the number of threads") {
  for (const DType dtype : kDtypes)
    check_thread_independence("elementwise", [&] {
      const ElementwiseCase c(100001, dtype);
      return std::vector{c.add(), c.scale(dtype, 0.3), c.jitter(0.1)};
    });
}
