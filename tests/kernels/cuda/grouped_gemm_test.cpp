#include "kernels/grouped_gemm.h"

#include <doctest/doctest.h>

#include "tests/support/gpu_moe_cases.h"

using namespace smoe;
using namespace smoe::test;
using kernels::RowLayout;

namespace {

// The four pairs of layouts, and scattered input with one row a token.
struct Mode {
  RowLayout x, y;
  bool row_per_token = false;
};
constexpr Mode kModes[] = {{RowLayout::grouped, RowLayout::grouped},
                           {RowLayout::grouped, RowLayout::scattered},
                           {RowLayout::scattered, RowLayout::grouped},
                           {RowLayout::scattered, RowLayout::scattered},
                           {RowLayout::scattered, RowLayout::grouped, true},
                           {RowLayout::scattered, RowLayout::scattered, true}};

std::vector<Result> run_all(const MoeCase& test, const Mode& mode, DType dtype) {
  const RoutingPlan plan = test.plan();
  const std::int64_t rows = plan.num_rows(), d = test.d, f = test.f, e = test.num_experts;
  const Tensor x = random_normal("x", {mode.row_per_token ? test.num_tokens : rows, d}, dtype);
  const Tensor dy = random_normal("dy", {rows, f}, dtype);
  const Tensor w = random_normal("w", {e, f, d}, dtype), bias = random_normal("b", {e, f}, dtype);
  std::vector<Result> results;
  for (const bool with_bias : {false, true}) {
    const Tensor y = Tensor::empty({rows, f}, dtype);
    run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
               {.routing = view_of(plan),
                .x = {matrix_of(x), mode.x},
                .weight = experts_of(w),
                .bias = with_bias ? matrix_of(bias) : Matrix{},
                .y = matrix_of(y),
                .y_layout = mode.y});
    results.push_back({with_bias ? "y with bias" : "y", y, {.sum_length = d + 1}});
  }
  const Tensor dx = Tensor::empty({rows, d}, dtype);
  run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
             {.routing = view_of(plan),
              .x = {matrix_of(dy), mode.y},
              .weight = experts_of(w),
              .transpose_weight = true,
              .y = matrix_of(dx),
              .y_layout = mode.x});
  results.push_back({"dx", dx, {.sum_length = f}});
  const Tensor dw = Tensor::empty({e, f, d}, DType::f32), db = Tensor::empty({e, f}, DType::f32);
  for (const double beta : {0.0, 1.0, 0.5}) {  // the first writes over NaNs
    run_kernel(kernels::expert_gradient, kernels::expert_gradient_workspace_bytes,
               {.routing = view_of(plan),
                .dy = {matrix_of(dy), mode.y},
                .x = {matrix_of(x), mode.x},
                .dweight = dw.data(),
                .beta = beta,
                .dbias = db.data(),
                .bias_beta = beta});
    const Closeness closeness{.sum_length = rows + 2};
    results.push_back({concat("dw, beta ", beta), dw.clone(Category::gradients), closeness});
    results.push_back({concat("db, beta ", beta), db.clone(Category::gradients), closeness});
  }
  return results;
}

}  // namespace

TEST_CASE("grouped products on the GPU agree with the CPU's in every layout") {
  for_gpu_moe_cases([](const MoeCase& test, DType dtype) {
    for (const Mode& mode : kModes)
      check_on_gpu(concat(test.name(), " ", name_of(dtype), " x ", static_cast<int>(mode.x), " y ",
                          static_cast<int>(mode.y), mode.row_per_token ? " a row a token" : ""),
                   [&] { return run_all(test, mode, dtype); });
  });
}

TEST_CASE("products of rows within wider rows on the GPU agree with the CPU's") {
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

TEST_CASE("group on the GPU gathers rows as on the CPU") {
  for_gpu_moe_cases([](const MoeCase& test, DType dtype) {
    for (const bool row_per_token : {false, true})
      check_on_gpu(concat("group ", test.name(), " ", name_of(dtype)), [&] {
        const RoutingPlan plan = test.plan();
        const Tensor x =
            random_normal("x", {row_per_token ? test.num_tokens : plan.num_rows(), test.d}, dtype);
        const Tensor gates = random_normal("gates", {test.num_tokens, test.top_k}, DType::f32);
        std::vector<Result> results;
        for (const bool gated : {false, true}) {
          const Tensor grouped = Tensor::empty({plan.num_rows(), test.d}, dtype);
          kernels::group(launch(), {view_of(plan), matrix_of(x), gated ? gates.data() : nullptr,
                                    matrix_of(grouped)});
          results.push_back({gated ? "grouped, gated" : "grouped", grouped});
        }
        return results;
      });
  });
}
