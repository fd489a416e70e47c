#include "kernels/gemm.h"

#include <doctest/doctest.h>

#include "core/device.h"
#include "tests/reference/gemm.h"
#include "tests/support/compare.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Sizes {
  std::int64_t m, n, k;
};

constexpr DType kDtypes[] = {DType::f32, DType::f64, DType::bf16};

struct Case {
  Sizes sizes;
  bool transpose_a = false, transpose_b = false;
  DType a = DType::f32, b = DType::f32, c = DType::f32;
  double beta = 0;
};

Tensor operand(const char* name, std::int64_t rows, std::int64_t cols, bool transposed,
               DType dtype) {
  return random_normal(name, transposed ? Shape{cols, rows} : Shape{rows, cols}, dtype);
}

Tensor run(const Case& test) {
  const auto [m, n, k] = test.sizes;
  const Tensor a = operand("a", m, k, test.transpose_a, test.a);
  const Tensor b = operand("b", k, n, test.transpose_b, test.b);
  // Uninitialised where beta is zero, so that a kernel which reads it shows NaNs.
  const Tensor c =
      test.beta == 0 ? Tensor::empty({m, n}, test.c) : operand("c", m, n, false, test.c);
  kernels::GemmArgs args{matrix_of(a),     test.transpose_a, matrix_of(b),
                         test.transpose_b, matrix_of(c),     test.beta};
  const Tensor workspace =
      Tensor::empty({kernels::gemm_workspace_bytes(launch(), args)}, DType::u8);
  args.workspace = workspace.data();
  kernels::gemm(launch(), args);
  return c;
}

void check(const Case& test) {
  const PoisonGuard poison;
  const auto [m, n, k] = test.sizes;
  const auto a = values_of(operand("a", m, k, test.transpose_a, test.a));
  const auto b = values_of(operand("b", k, n, test.transpose_b, test.b));
  auto c = values_of(operand("c", m, n, false, test.c));
  reference::gemm(m, n, k, a, test.transpose_a, b, test.transpose_b, test.beta, c);
  const Tensor got = run(test);
  // Sums are in f64 as soon as one operand is, but the bound of the output's dtype is wider.
  check_close(concat("gemm m ", m, " n ", n, " k ", k, " op ", test.transpose_a, test.transpose_b,
                     " beta ", test.beta, " ", name_of(test.a), " ", name_of(test.b)),
              got, c, {.sum_length = k + 1});
}

}  // namespace

TEST_CASE("gemm agrees with plain loops at awkward sizes, in every dtype and orientation") {
  for (const Sizes& sizes : {Sizes{1, 1, 1},
                             {1, 7, 3},
                             {7, 1, 5},
                             {129, 3, 33},
                             {65, 70, 130},
                             {5, 300, 1},
                             {130, 257, 65}})
    for (const DType dtype : kDtypes)
      for (const bool transpose_a : {false, true})
        for (const bool transpose_b : {false, true})
          for (const double beta : {0.0, 1.0})
            check({sizes, transpose_a, transpose_b, dtype, dtype, dtype, beta});
}

TEST_CASE("gemm converts between dtypes") {
  for (const DType a : kDtypes)
    for (const DType b : kDtypes)
      for (const DType c : {DType::f32, DType::bf16})
        if (a != DType::f64 && b != DType::f64) check({{67, 33, 300}, true, false, a, b, c, 1});
  check({{9, 10, 300}, false, true, DType::bf16, DType::f64, DType::f64, 1});
  check({{9, 10, 300}, false, true, DType::f64, DType::f64, DType::bf16, 0});
}

TEST_CASE("gemm with nothing to sum leaves beta c, with no rows or columns leaves all alone") {
  for (const DType dtype : kDtypes)
    for (const double beta : {0.0, 1.0})
      for (const Sizes& sizes : {Sizes{3, 4, 0}, {300, 700, 0}, {0, 4, 5}, {4, 0, 5}, {0, 0, 0}})
        for (const bool transpose : {false, true})
          check({sizes, transpose, !transpose, dtype, dtype, dtype, beta});
}

TEST_CASE("gemm cuts a long sum with a small output into slices") {
  for (const Sizes& sizes : {Sizes{8, 16, 2049}, {130, 8, 1000}, {1, 1, 5000}})
    for (const DType dtype : kDtypes)
      for (const double beta : {0.0, 1.0})
        check({sizes, true, false, dtype, dtype, dtype == DType::f64 ? dtype : DType::f32, beta});
}

TEST_CASE("gemm's bits do not depend on the number of threads") {
  for (const Sizes& sizes : {Sizes{300, 520, 130}, {8, 16, 2049}, {700, 64, 64}})
    for (const DType dtype : kDtypes)
      check_thread_independence("gemm", [&] {
        return std::vector{run({sizes, true, false, dtype, dtype, dtype, 1})};
      });
}
