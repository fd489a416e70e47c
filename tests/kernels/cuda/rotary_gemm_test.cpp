#include "kernels/rotary_gemm.h"

#include <doctest/doctest.h>

#include "kernels/engines.h"
#include "tests/kernels/rotary_gemm_cases.h"
#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

namespace {

bool is_hopper() {
  const StreamGuard guard(gpu_stream());
  return kernels::expert_engine(launch(), {8, 64, 64, kernels::Activation::swiglu, DType::bf16}) ==
         "wgmma";
}

struct Run {
  Tensor y;
  bool is_fused;
};

Run run(const RotaryGemmCase& c, DType dtype) {
  const RotaryGemmRun r(c, dtype, dtype);
  kernels::rotary_gemm(launch(), r.args);
  return {r.y, kernels::rotary_gemm_workspace_bytes(launch(), r.args) == 0};
}

// Against the parts in f64 on the CPU. Where the parts run on the GPU too, the projection is
// rounded before it is rotated.
void check(const RotaryGemmCase& c, DType dtype, bool is_fused) {
  if (runs_for_sanitizer([&] { return std::vector<Result>{{"y", run(c, dtype).y}}; })) return;
  const PoisonGuard poison;
  const RotaryGemmRun wanted(c, DType::f64, dtype);
  kernels::rotary_gemm(launch(), wanted.args);
  const double intermediate = unit_roundoff(dtype) * largest(values_of(wanted.y));
  const StreamGuard guard(gpu_stream());
  const Run got = run(c, dtype), again = run(c, dtype);
  CHECK(got.is_fused == (is_fused && is_hopper()));
  const Closeness closeness{.sum_length = c.d_model, .slack = got.is_fused ? 0 : intermediate};
  check_results(concat(c.name(), " ", name_of(dtype)), {{"y", got.y, closeness}}, {{"y", again.y}},
                {{"y", wanted.y}});
}

}  // namespace

// Rows and columns that end within a tile, one tile of rows, sequences that end within a tile, less
// than one tile of d_model.
TEST_CASE("one GEMM with rotary embedding on the GPU agrees with its parts in f64 on the CPU") {
  for (const RotaryGemmCase& c : {RotaryGemmCase{{1, 4200, 5, 1, 128}, 72},
                                  {{42, 200, 3, 2, 64}, 8, 1000},
                                  {{7, 19, 66, 33, 128}, 136, 3},
                                  {{1, 5, 132, 66, 128}, 64},
                                  {{5, 1, 264, 132, 64}, 200, 77},
                                  {{2100, 3, 5, 2, 128}, 40, 0, 24},
                                  {{2, 1375, 7, 7, 64}, 264, 0, 8},
                                  {{1, 2750, 0, 6, 128}, 24},
                                  {{2, 2400, 8, 2, 128}, 520, 2048}})
    check(c, DType::bf16, true);
}

TEST_CASE("rotary_gemm on the GPU runs the parts for other sizes and dtypes") {
  for (const RotaryGemmCase& c : {RotaryGemmCase{{1, 4200, 5, 1, 128}, 12},
                                  {{1, 4200, 5, 1, 96}, 16},
                                  {{1, 4200, 5, 1, 128}, 16, 0, 4},
                                  {{1, 4300, 5, 1, 128}, 16},
                                  {{2, 33, 4, 2, 16}, 24, 5},
                                  {{3, 37, 8, 2, 128}, 64},
                                  {{0, 37, 8, 2, 128}, 64},
                                  {{3, 37, 8, 2, 128}, 0}})
    check(c, DType::bf16, false);
  check({{1, 4200, 5, 1, 128}, 72}, DType::f32, false);
}
