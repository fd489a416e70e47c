#include "kernels/grouped_gemm.h"

#include <doctest/doctest.h>

#include "core/device.h"
#include "tests/support/compare.h"
#include "tests/support/moe_cases.h"

using namespace smoe;
using namespace smoe::test;
using kernels::RowLayout;

namespace {

constexpr DType kDtypes[] = {DType::f32, DType::f64, DType::bf16};
constexpr RowLayout kLayouts[] = {RowLayout::grouped, RowLayout::scattered};

// The four modes, and scattered input with one row a token.
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

struct Setup {
  Setup(const MoeCase& c, const Mode& m, DType dtype)
      : test(c), mode(m), plan(c.plan()), routed(c.routed()) {
    const std::int64_t rows = mode.row_per_token ? c.num_tokens : plan.num_rows();
    x = random_normal("x", {rows, c.d}, dtype);
    dy = random_normal("dy", {plan.num_rows(), c.f}, dtype);
    w = random_normal("w", {c.num_experts, c.f, c.d}, dtype);
    bias = random_normal("bias", {c.num_experts, c.f}, dtype);
    x_pairs = from_layout(values_of(x), plan, mode.x);
    dy_pairs = from_layout(values_of(dy), plan, mode.y);
  }

  Tensor forward(bool with_bias) const {
    const Tensor y = Tensor::empty({plan.num_rows(), test.f}, x.dtype());
    run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
               {.routing = view_of(plan),
                .x = {matrix_of(x), mode.x},
                .weight = experts_of(w),
                .bias = with_bias ? matrix_of(bias) : Matrix{},
                .y = matrix_of(y),
                .y_layout = mode.y});
    return y;
  }

  // dx in x's layout, one row a pair.
  Tensor backward() const {
    const Tensor dx = Tensor::empty({plan.num_rows(), test.d}, x.dtype());
    run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
               {.routing = view_of(plan),
                .x = {matrix_of(dy), mode.y},
                .weight = experts_of(w),
                .transpose_weight = true,
                .y = matrix_of(dx),
                .y_layout = mode.x});
    return dx;
  }

  void gradients(const Tensor& dw, const Tensor& db, double beta) const {
    run_kernel(kernels::expert_gradient, kernels::expert_gradient_workspace_bytes,
               {.routing = view_of(plan),
                .dy = {matrix_of(dy), mode.y},
                .x = {matrix_of(x), mode.x},
                .dweight = dw.data(),
                .beta = beta,
                .dbias = db.data(),
                .bias_beta = beta});
  }

  MoeCase test;
  Mode mode;
  RoutingPlan plan;
  reference::Routed routed;
  Tensor x, dy, w, bias;
  std::vector<double> x_pairs, dy_pairs;
};

void check_case(const MoeCase& test, const Mode& mode, DType dtype) {
  const Setup s(test, mode, dtype);
  const auto w = values_of(s.w), bias = values_of(s.bias);
  const std::int64_t d = test.d, f = test.f;
  for (const bool with_bias : {false, true}) {
    const auto y =
        reference::project(s.routed, s.x_pairs, w, with_bias ? bias : std::vector<double>{}, d, f);
    check_close("y: " + test.name(), s.forward(with_bias), to_layout(y, s.plan, mode.y),
                {.sum_length = d + 1});
  }
  const auto dx = reference::project_back(s.routed, s.dy_pairs, w, d, f);
  check_close("dx: " + test.name(), s.backward(), to_layout(dx, s.plan, mode.x), {.sum_length = f});

  const auto dw = reference::weight_gradient(s.routed, s.dy_pairs, s.x_pairs, d, f);
  const auto db = reference::bias_gradient(s.routed, s.dy_pairs, f);
  const DType acc = accumulation_dtype(dtype);
  const Tensor dw_got = Tensor::empty({test.num_experts, f, d}, acc);
  const Tensor db_got = Tensor::empty({test.num_experts, f}, acc);
  // The second call adds as much again.
  for (const double times : {1.0, 2.0}) {
    s.gradients(dw_got, db_got, times - 1);
    auto dw_wanted = dw, db_wanted = db;
    for (double& value : dw_wanted) value *= times;
    for (double& value : db_wanted) value *= times;
    const Closeness closeness{.sum_length = s.plan.num_rows() + 1};
    check_close("dw: " + test.name(), dw_got, dw_wanted, closeness);
    check_close("db: " + test.name(), db_got, db_wanted, closeness);
  }
}

}  // namespace

TEST_CASE("grouped products agree with plain loops in every layout and dtype") {
  const PoisonGuard poison;
  for (const MoeCase& test : moe_cases())
    for (const Mode& mode : kModes)
      for (const DType dtype : kDtypes) check_case(test, mode, dtype);
}

TEST_CASE("grouped products agree with plain loops with more columns and rows than a tile") {
  const PoisonGuard poison;
  for (const MoeCase& test : wide_moe_cases())
    for (const Mode& mode : {kModes[0], kModes[3], kModes[4]})
      for (const DType dtype : kDtypes) check_case(test, mode, dtype);
}

TEST_CASE("the gradient of an expert without rows is zero with beta 0 and untouched with beta 1") {
  const PoisonGuard poison;
  const MoeCase test{9, 1, 5, 3, 4, Spread::one_expert};
  const Setup s(test, kModes[0], DType::f32);
  const Tensor dw = Tensor::empty({5, 4, 3}, DType::f32), db = Tensor::empty({5, 4}, DType::f32);
  s.gradients(dw, db, 0);
  for (int i = 0; i < 4 * 12; ++i) CHECK(dw.data_as<float>()[i] == 0);
  for (int i = 0; i < 4 * 4; ++i) CHECK(db.data_as<float>()[i] == 0);
  for (int i = 0; i < 4 * 12; ++i) dw.data_as<float>()[i] = 5;
  s.gradients(dw, db, 1);
  for (int i = 0; i < 4 * 12; ++i) CHECK(dw.data_as<float>()[i] == 5);
}

TEST_CASE("group gathers rows, times their gates") {
  const PoisonGuard poison;
  for (const MoeCase& test : moe_cases())
    for (const DType dtype : kDtypes)
      for (const bool row_per_token : {false, true})
        for (const bool gated : {false, true}) {
          const RoutingPlan plan = test.plan();
          const auto routed = test.routed();
          const std::int64_t rows = row_per_token ? test.num_tokens : plan.num_rows();
          const Tensor x = random_normal("x", {rows, test.d}, dtype);
          const Tensor gates =
              random_normal("gates", {test.num_tokens, test.top_k}, accumulation_dtype(dtype));
          const Tensor grouped = Tensor::empty({plan.num_rows(), test.d}, dtype);
          kernels::group(launch(), {view_of(plan), matrix_of(x), gated ? gates.data() : nullptr,
                                    matrix_of(grouped)});
          const auto x_values = values_of(x), gate_values = values_of(gates);
          std::vector<double> wanted(plan.num_rows() * test.d);
          for (std::int64_t pair = 0; pair < plan.num_rows(); ++pair)
            for (std::int64_t i = 0; i < test.d; ++i)
              wanted[pair * test.d + i] =
                  (gated ? gate_values[pair] : 1) * x_values[routed.row(pair, rows) * test.d + i];
          check_close("grouped: " + test.name(), grouped,
                      to_layout(wanted, plan, RowLayout::grouped));
        }
}

TEST_CASE("grouped products' bits do not depend on the number of threads") {
  for (const MoeCase& test : {MoeCase{300, 2, 4, 40, 36}, {40, 2, 4, 300, 530}})
    for (const Mode& mode : kModes)
      for (const DType dtype : kDtypes)
        check_thread_independence("grouped", [&] {
          const Setup s(test, mode, dtype);
          const DType acc = accumulation_dtype(dtype);
          const Tensor dw = Tensor::zeros({test.num_experts, test.f, test.d}, acc);
          const Tensor db = Tensor::zeros({test.num_experts, test.f}, acc);
          s.gradients(dw, db, 1);
          return std::vector{s.forward(true), s.backward(), dw, db};
        });
}
