#include "kernels/grouped_gemm.h"

#include <doctest/doctest.h>

#include "kernels/elementwise.h"
#include "tests/kernels/grouped_gemm_cases.h"
#include "tests/support/compare.h"

using namespace smoe;
using namespace smoe::test;
using kernels::RowLayout;

namespace {

constexpr DType kDtypes[] = {DType::f32, DType::f64, DType::bf16};
void check_case(const MoeCase& test, const GroupedMode& mode, DType dtype) {
  const GroupedGemmCase s(test, mode, dtype);
  const reference::Routed routed = test.routed();
  const auto x = from_layout(values_of(s.x), s.plan, mode.x);
  const auto dy = from_layout(values_of(s.dy), s.plan, mode.y);
  const auto w = values_of(s.w), bias = values_of(s.bias);
  const std::int64_t d = test.d, f = test.f;
  for (const bool with_bias : {false, true}) {
    const auto y = reference::project(routed, x, w, with_bias ? bias : std::vector<double>{}, d, f);
    check_close("y: " + test.name(), s.forward(with_bias), to_layout(y, s.plan, mode.y),
                {.sum_length = d + 1});
  }
  const auto dx = reference::project_back(routed, dy, w, d, f);
  check_close("dx: " + test.name(), s.backward(), to_layout(dx, s.plan, mode.x), {.sum_length = f});

  const auto dw = reference::weight_gradient(routed, dy, x, d, f);
  const auto db = reference::bias_gradient(routed, dy, f);
  for (const DType gradients : {accumulation_dtype(dtype), DType::bf16}) {
    const Tensor dw_got = s.empty_dw(gradients), db_got = s.empty_db(gradients);
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
}

}  // namespace

TEST_CASE("grouped GEMMs agree with plain loops in every layout and dtype") {
  const PoisonGuard poison;
  for (const MoeCase& test : moe_cases())
    for (const GroupedMode& mode : kGroupedModes)
      for (const DType dtype : kDtypes) check_case(test, mode, dtype);
}

TEST_CASE("grouped GEMMs agree with plain loops with more columns and rows than a tile") {
  const PoisonGuard poison;
  for (const MoeCase& test : wide_moe_cases())
    for (const GroupedMode& mode : {kGroupedModes[0], kGroupedModes[3], kGroupedModes[4]})
      for (const DType dtype : kDtypes) check_case(test, mode, dtype);
}

TEST_CASE("the gradient of an expert without rows is zero with beta 0 and untouched with beta 1") {
  const PoisonGuard poison;
  const MoeCase test{9, 1, 5, 3, 4, Spread::one_expert};
  const GroupedGemmCase s(test, kGroupedModes[0], DType::f32);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Tensor dw = s.empty_dw(dtype), db = s.empty_db(dtype);
    s.gradients(dw, db, 0);
    const auto dw_values = values_of(dw), db_values = values_of(db);
    for (int i = 0; i < 4 * 12; ++i) CHECK(dw_values[i] == 0);
    for (int i = 0; i < 4 * 4; ++i) CHECK(db_values[i] == 0);
    kernels::fill(launch(), {dw.data(), dtype, dw.numel(), 5});
    s.gradients(dw, db, 1);
    const auto added = values_of(dw);
    for (int i = 0; i < 4 * 12; ++i) CHECK(added[i] == 5);
  }
}

TEST_CASE("bf16 gradients of experts are rounded after the previous ones are added") {
  for (const MoeCase& test : kRoundedGradientCases)
    for (const GroupedMode& mode : kGroupedModes) check_rounding_after_addition(test, mode);
}

TEST_CASE("rows of one expert that are not finite reach no other expert's gradient") {
  for (const GroupedMode& mode : kGroupedModes)
    for (const DType dtype : kDtypes)
      if (!mode.row_per_token) check_nonfinite_rows(mode, dtype, accumulation_dtype(dtype));
}

TEST_CASE("group gathers rows and multiplies them by their gates") {
  const PoisonGuard poison;
  for (const MoeCase& test : moe_cases())
    for (const DType dtype : kDtypes)
      for (const bool row_per_token : {false, true})
        for (const bool gated : {false, true}) {
          const GroupCase c(test, row_per_token, dtype);
          const RoutingPlan& plan = c.plan;
          const auto routed = test.routed();
          const std::int64_t rows = c.x.dim(0);
          const Tensor grouped = c.run(gated);
          const auto x_values = values_of(c.x), gate_values = values_of(c.gates);
          std::vector<double> wanted(plan.num_rows() * test.d);
          for (std::int64_t pair = 0; pair < plan.num_rows(); ++pair)
            for (std::int64_t i = 0; i < test.d; ++i)
              wanted[pair * test.d + i] =
                  (gated ? gate_values[pair] : 1) * x_values[routed.row(pair, rows) * test.d + i];
          check_close("grouped: " + test.name(), grouped,
                      to_layout(wanted, plan, RowLayout::grouped));
        }
}

TEST_CASE("grouped GEMMs' bits do not depend on the number of threads") {
  for (const MoeCase& test : {MoeCase{300, 2, 4, 40, 36}, {40, 2, 4, 300, 530}})
    for (const GroupedMode& mode : kGroupedModes)
      for (const DType dtype : kDtypes)
        check_thread_independence("grouped", [&] {
          const GroupedGemmCase s(test, mode, dtype);
          const DType acc = accumulation_dtype(dtype);
          const Tensor dw = Tensor::zeros({test.num_experts, test.f, test.d}, acc);
          const Tensor db = Tensor::zeros({test.num_experts, test.f}, acc);
          const Tensor dw_rounded = Tensor::zeros(dw.shape(), DType::bf16);
          const Tensor db_rounded = Tensor::zeros(db.shape(), DType::bf16);
          s.gradients(dw, db, 1);
          s.gradients(dw_rounded, db_rounded, 1);
          return std::vector{s.forward(true), s.backward(), dw, db, dw_rounded, db_rounded};
        });
}
