#include "kernels/grouped_gemm.h"

#include <doctest/doctest.h>

#include "autograd/ops/run_kernel.h"
#include "tests/kernels/grouped_gemm_cases.h"
#include "tests/support/gpu_moe_cases.h"

using namespace smoe;
using namespace smoe::test;
using kernels::RowLayout;

namespace {

// dw and db in `gradients` after calls with different beta.
void add_gradients(const GroupedGemmCase& s, DType gradients, std::vector<Result>& results) {
  const Tensor dw = s.empty_dw(gradients), db = s.empty_db(gradients);
  for (const double beta : {0.0, 1.0, 0.5}) {  // the first overwrites NaNs
    s.gradients(dw, db, beta);
    const Closeness closeness{.sum_length = s.plan.num_rows() + 2};
    const std::string what = concat(name_of(gradients), ", beta ", beta);
    results.push_back({"dw " + what, dw.clone(Category::gradients), closeness});
    results.push_back({"db " + what, db.clone(Category::gradients), closeness});
  }
}

std::vector<Result> run_all(const MoeCase& test, const GroupedMode& mode, DType dtype) {
  const GroupedGemmCase s(test, mode, dtype);
  std::vector<Result> results{{"y", s.forward(false), {.sum_length = test.d + 1}},
                              {"y with bias", s.forward(true), {.sum_length = test.d + 1}},
                              {"dx", s.backward(), {.sum_length = test.f}}};
  for (const DType gradients : {DType::f32, DType::bf16}) add_gradients(s, gradients, results);
  return results;
}

}  // namespace

TEST_CASE("grouped GEMMs on the GPU agree with the CPU's in every layout") {
  for_gpu_moe_cases([](const MoeCase& test, DType dtype) {
    for (const GroupedMode& mode : kGroupedModes)
      check_on_gpu(concat(test.name(), " ", name_of(dtype), " x ", static_cast<int>(mode.x), " y ",
                          static_cast<int>(mode.y), mode.row_per_token ? " one row per token" : ""),
                   [&] { return run_all(test, mode, dtype); });
  });
}

TEST_CASE("grouped GEMMs of random routings on the GPU agree with the CPU's") {
  for (std::int64_t i = 0; i < num_random_moe_cases(); ++i) {
    const MoeCase test = random_moe_case(i);
    const GroupedMode& mode = kGroupedModes[i % std::size(kGroupedModes)];
    check_on_gpu(concat(test.name(), " mode ", i % std::size(kGroupedModes)),
                 [&] { return run_all(test, mode, DType::bf16); });
  }
}

TEST_CASE("grouped GEMMs of many tiles on the GPU agree with the portable ones") {
  for (std::int64_t i = 0; i < num_many_tiles_moe_cases(); ++i) {
    const MoeCase test = many_tiles_moe_case(i);
    const GroupedMode& mode = kGroupedModes[i % std::size(kGroupedModes)];
    check_against_portable(concat(test.name(), " mode ", i % std::size(kGroupedModes)),
                           [&] { return run_all(test, mode, DType::bf16); });
  }
}

TEST_CASE("grouped GEMMs of strided rows on the GPU agree with the CPU's") {
  const MoeCase test{200, 2, 4, 136, 264};
  for (const std::int64_t pad : {8, 3})  // with whole 16-byte chunks, and without
    for (const DType dtype : {DType::bf16, DType::f32})
      check_on_gpu(concat("pad ", pad, " ", name_of(dtype)), [&] {
        const RoutingPlan plan = test.plan();
        const Tensor x = random_normal("x", {test.num_tokens, test.d + pad}, dtype);
        const Tensor w = random_normal("w", {test.num_experts, test.f, test.d}, dtype);
        const Tensor y = random_normal("y", {plan.num_rows(), test.f + pad}, dtype);
        const auto without_pad = [&](const Tensor& t) {
          Matrix m = matrix_of(t);
          m.cols -= pad;
          return m;
        };
        run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
                   {.routing = view_of(plan),
                    .x = {without_pad(x), RowLayout::scattered},
                    .weight = experts_of(w),
                    .y = without_pad(y)});
        return std::vector<Result>{{"y and its pad", y, {.sum_length = test.d}}};
      });
}

TEST_CASE("rows of one expert that are not finite reach no other expert's gradient on the GPU") {
  for (const ExpertKernels kernels : {ExpertKernels::automatic, ExpertKernels::portable}) {
    const StreamGuard guard(gpu_stream(), {.experts = kernels});
    for (const GroupedMode& mode : kGroupedModes)
      for (const DType dtype : {DType::bf16, DType::f32})
        for (const DType gradients : {DType::f32, DType::bf16})
          if (!mode.row_per_token) check_nonfinite_rows(mode, dtype, gradients);
  }
}

TEST_CASE("bf16 gradients of experts on the GPU are rounded after the previous ones are added") {
  for (const ExpertKernels kernels : {ExpertKernels::automatic, ExpertKernels::portable}) {
    const StreamGuard guard(gpu_stream(), {.experts = kernels});
    for (const MoeCase& test : kRoundedGradientCases)
      for (const GroupedMode& mode : kGroupedModes) check_rounding_after_addition(test, mode);
  }
}

TEST_CASE("group on the GPU agrees with the CPU's") {
  for_gpu_moe_cases([](const MoeCase& test, DType dtype) {
    for (const bool row_per_token : {false, true})
      check_on_gpu(concat("group ", test.name(), " ", name_of(dtype)), [&] {
        const GroupCase c(test, row_per_token, dtype);
        return std::vector<Result>{{"grouped", c.run(false)}, {"grouped, gated", c.run(true)}};
      });
  });
}
