// Comparisons for tests: element by element against a reference in double, with a bound derived
// from the dtype and the number of accumulated terms, or bit by bit. A failure prints the worst
// element.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/device.h"
#include "kernels/cpu/threads.h"
#include "tests/support/tensors.h"

namespace smoe::test {

/// Half the distance between neighbors at 1: the relative error of one rounding.
inline double unit_roundoff(DType dtype) {
  return dtype == DType::f64 ? 0x1p-53 : dtype == DType::bf16 ? 0x1p-8 : 0x1p-24;
}

/// max|x_i|, or 0 if there are none.
inline double largest(const std::vector<double>& values) {
  double most = 0;
  for (const double value : values) most = std::max(most, std::abs(value));
  return most;
}

struct Closeness {
  std::int64_t sum_length = 1;  ///< terms accumulated per element
  double factor = 4;            ///< at most 4
  /// Error that an intermediate value adds if it was rounded to a narrower dtype, to the other
  /// neighbor than in the reference: the dtype's u times the largest term of the sum.
  double slack = 0;
};

/// Checks that |got - reference| <= factor (u(got) |reference| + u(acc) sqrt(sum_length)
/// max|reference| + slack) for each element, where u(acc) is that of got's accumulation dtype.
inline void check_close(const std::string& what, const Tensor& got,
                        const std::vector<double>& reference, const Closeness& closeness = {}) {
  const std::vector<double> values = values_of(got);
  REQUIRE_MESSAGE(values.size() == reference.size(), what, ": got ", values.size(), " elements, ",
                  reference.size(), " in the reference");
  REQUIRE(closeness.factor <= 4);
  const double of_sums = unit_roundoff(accumulation_dtype(got.dtype())) *
                         std::sqrt(static_cast<double>(closeness.sum_length)) * largest(reference);
  double worst = 0;
  std::size_t at = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double error = std::abs(values[i] - reference[i]);
    const double bound = closeness.factor * (unit_roundoff(got.dtype()) * std::abs(reference[i]) +
                                             of_sums + closeness.slack);
    const double ratio = std::isnan(error) ? INFINITY : error == 0 ? 0 : error / bound;
    if (ratio > worst) {
      worst = ratio;
      at = i;
    }
  }
  CHECK_MESSAGE(worst <= 1, what, " ", got.shape().to_string(), " ",
                std::string(name_of(got.dtype())), ": element ", at, " is ", values[at],
                ", reference ", reference[at], ": ", worst, " times the bound");
}

/// Checks that two tensors, on any device, have the same bits.
inline void check_same_bits(const std::string& what, const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  REQUIRE(a.dtype() == b.dtype());
  const Stream host;
  const StreamGuard guard(host);
  const Tensor a_bytes = a.clone(Category::workspace), b_bytes = b.clone(Category::workspace);
  const auto* x = static_cast<const char*>(a_bytes.data());
  const auto* y = static_cast<const char*>(b_bytes.data());
  std::int64_t i = 0;
  while (i < a.bytes() && x[i] == y[i]) ++i;
  CHECK_MESSAGE(i == a.bytes(), what, ": bits differ at element ", i / size_of(a.dtype()));
}

/// Checks that `run` returns the same bits with one, two and three threads.
template <class F>
void check_thread_independence(const std::string& what, F&& run) {
  const int before = kernels::cpu::num_threads();
  kernels::cpu::set_num_threads(1);
  const std::vector<Tensor> once = run();
  for (const int threads : {2, 3}) {
    kernels::cpu::set_num_threads(threads);
    const std::vector<Tensor> again = run();
    REQUIRE(once.size() == again.size());
    for (std::size_t i = 0; i < once.size(); ++i)
      check_same_bits(
          what + " with " + std::to_string(threads) + " threads, output " + std::to_string(i),
          again[i], once[i]);
  }
  kernels::cpu::set_num_threads(before);
}

}  // namespace smoe::test
