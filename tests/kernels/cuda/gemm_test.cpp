#include "kernels/gemm.h"

#include <doctest/doctest.h>

#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Sizes {
  std::int64_t m, n, k;
};

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

void check(const Case& test) {
  const auto [m, n, k] = test.sizes;
  check_on_gpu(
      concat("gemm m ", m, " n ", n, " k ", k, " op ", test.transpose_a, test.transpose_b, " beta ",
             test.beta, " ", name_of(test.a), " ", name_of(test.b), " ", name_of(test.c)),
      [&] {
        const Tensor a = operand("a", m, k, test.transpose_a, test.a);
        const Tensor b = operand("b", k, n, test.transpose_b, test.b);
        const Tensor c =
            test.beta == 0 ? Tensor::empty({m, n}, test.c) : operand("c", m, n, false, test.c);
        kernels::GemmArgs args{matrix_of(a),     test.transpose_a, matrix_of(b),
                               test.transpose_b, matrix_of(c),     test.beta};
        const Tensor workspace =
            Tensor::empty({kernels::gemm_workspace_bytes(launch(), args)}, DType::u8);
        args.workspace = workspace.data();
        kernels::gemm(launch(), args);
        return std::vector<Result>{{"c", c, {.sum_length = k + 1}}};
      });
}

}  // namespace

TEST_CASE("gemm on the GPU agrees with the CPU's at awkward sizes and in every orientation") {
  for (const Sizes& sizes : {Sizes{1, 1, 1},
                             {1, 7, 3},
                             {7, 1, 5},
                             {129, 3, 33},
                             {65, 70, 130},
                             {5, 300, 1},
                             {256, 512, 64},
                             {130, 257, 65},
                             {8, 16, 5000}})
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const bool transpose_a : {false, true})
        for (const bool transpose_b : {false, true})
          for (const double beta : {0.0, 1.0})
            check({sizes, transpose_a, transpose_b, dtype, dtype, dtype, beta});
}

TEST_CASE("gemm on the GPU accumulates products of bf16 in f32") {
  for (const Sizes& sizes : {Sizes{7, 9, 100}, {64, 128, 4096}, {1024, 24, 3000}})
    for (const double beta : {0.0, 1.0})
      check({sizes, true, false, DType::bf16, DType::bf16, DType::f32, beta});
}

TEST_CASE("gemm on the GPU converts between dtypes") {
  constexpr DType kDtypes[] = {DType::f32, DType::bf16};
  for (const DType a : kDtypes)
    for (const DType b : kDtypes)
      for (const DType c : kDtypes)
        for (const double beta : {0.0, 1.0}) check({{67, 33, 300}, true, false, a, b, c, beta});
}

TEST_CASE("gemm on the GPU with nothing to sum leaves beta c") {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const double beta : {0.0, 0.5, 1.0})
      for (const Sizes& sizes : {Sizes{3, 4, 0}, {0, 4, 5}, {4, 0, 5}, {0, 0, 0}})
        check({sizes, true, false, dtype, dtype, dtype, beta});
}
