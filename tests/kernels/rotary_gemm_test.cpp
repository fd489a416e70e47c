#include "kernels/rotary_gemm.h"

#include <doctest/doctest.h>

#include "tests/kernels/rotary_gemm_cases.h"
#include "tests/support/compare.h"

using namespace smoe;
using namespace smoe::test;

TEST_CASE("rotary_gemm on the CPU has the bits of its parts") {
  const PoisonGuard poison;
  for (const RotaryGemmCase& c : {RotaryGemmCase{{1, 1, 1, 1, 2}, 3},
                                  {{2, 17, 3, 1, 6}, 10, 40},
                                  {{3, 5, 2, 1, 64}, 24, 0, 8},
                                  {{0, 5, 1, 1, 4}, 3}})
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      const RotaryGemmRun fused(c, dtype, dtype), parts(c, dtype, dtype);
      kernels::rotary_gemm(launch(), fused.args);
      run_gemm(parts.args.gemm());
      kernels::rotary(launch(), parts.args.rotary);
      check_same_bits(c.name(), fused.y, parts.y);
    }
}
