// Cases of kernels/grouped_gemm.h on the current stream.
#pragma once
#include <doctest/doctest.h>

#include <cmath>

#include "autograd/ops/run_kernel.h"
#include "kernels/grouped_gemm.h"
#include "tests/support/moe_cases.h"
#include "tests/support/tensors.h"

namespace smoe::test {

/// Layouts of input and output. A scattered input may have one row per token instead of per pair.
struct GroupedMode {
  kernels::RowLayout x, y;
  bool row_per_token = false;
};
inline constexpr GroupedMode kGroupedModes[] = {
    {kernels::RowLayout::grouped, kernels::RowLayout::grouped},
    {kernels::RowLayout::grouped, kernels::RowLayout::scattered},
    {kernels::RowLayout::scattered, kernels::RowLayout::grouped},
    {kernels::RowLayout::scattered, kernels::RowLayout::scattered},
    {kernels::RowLayout::scattered, kernels::RowLayout::grouped, true},
    {kernels::RowLayout::scattered, kernels::RowLayout::scattered, true}};

struct GroupedGemmCase {
  GroupedGemmCase(const MoeCase& c, const GroupedMode& m, DType dtype)
      : test(c), mode(m), plan(c.plan()) {
    x = random_normal("x", {mode.row_per_token ? c.num_tokens : plan.num_rows(), c.d}, dtype);
    dy = random_normal("dy", {plan.num_rows(), c.f}, dtype);
    w = random_normal("w", {c.num_experts, c.f, c.d}, dtype);
    bias = random_normal("bias", {c.num_experts, c.f}, dtype);
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

  /// dx in x's layout, one row per pair.
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

  /// dw = beta dw + dy^T x per expert, and db = beta db + column sums of dy.
  void gradients(const Tensor& dw, const Tensor& db, double beta) const {
    run_kernel(kernels::expert_gradient, kernels::expert_gradient_workspace_bytes,
               {.routing = view_of(plan),
                .dy = {matrix_of(dy), mode.y},
                .x = {matrix_of(x), mode.x},
                .dtype = dw.dtype(),
                .dweight = dw.data(),
                .beta = beta,
                .dbias = db.data(),
                .bias_beta = beta});
  }
  Tensor empty_dw() const { return empty_dw(accumulation_dtype(x.dtype())); }
  Tensor empty_dw(DType dtype) const {
    return Tensor::empty({test.num_experts, test.f, test.d}, dtype);
  }
  Tensor empty_db() const { return empty_db(accumulation_dtype(x.dtype())); }
  Tensor empty_db(DType dtype) const { return Tensor::empty({test.num_experts, test.f}, dtype); }

  MoeCase test;
  GroupedMode mode;
  RoutingPlan plan;
  Tensor x, dy, w, bias;
};

/// `rows`, one per pair in `layout`, with infinities and NaNs in those of `expert`.
inline Tensor with_nonfinite_rows(const Tensor& rows, const RoutingPlan& plan,
                                  kernels::RowLayout layout, std::int64_t expert) {
  const auto offsets = plan.expert_offsets.to_vector<std::int32_t>();
  const auto ids = plan.sorted_scattered_ids.to_vector<std::int32_t>();
  std::vector<double> values = values_of(rows);
  const std::int64_t cols = rows.dim(1);
  for (std::int64_t p = offsets[expert]; p < offsets[expert + 1]; ++p) {
    const std::int64_t row = layout == kernels::RowLayout::grouped ? p : ids[p];
    for (std::int64_t col = 0; col < cols; ++col)
      values[row * cols + col] = col % 2 == 0 ? INFINITY : NAN;
  }
  return tensor_of(values, rows.shape(), rows.dtype());
}

/// Checks that rows of one expert that are not finite reach its weight gradient and do not change a
/// bit of those of the other experts.
inline void check_nonfinite_rows(const GroupedMode& mode, DType dtype, DType gradients) {
  const MoeCase test{150, 2, 5, 72, 136};  // about 60 rows per expert
  const GroupedGemmCase finite(test, mode, dtype);
  const auto gradient = [&](const GroupedGemmCase& c) {
    const Tensor dw = c.empty_dw(gradients);
    c.gradients(dw, c.empty_db(gradients), 0);
    return values_of(dw);
  };
  const std::vector<double> wanted = gradient(finite);
  const auto size = static_cast<std::size_t>(test.d * test.f);
  for (std::int64_t expert = 0; expert < test.num_experts; ++expert) {
    GroupedGemmCase c = finite;
    c.x = with_nonfinite_rows(c.x, c.plan, mode.x, expert);
    c.dy = with_nonfinite_rows(c.dy, c.plan, mode.y, expert);
    const std::vector<double> got = gradient(c);
    int num_changed = 0, num_finite = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const bool is_own = i / size == static_cast<std::size_t>(expert);
      num_changed += !is_own && got[i] != wanted[i];
      num_finite += is_own && std::isfinite(got[i]);
    }
    CAPTURE(expert);
    CHECK(num_changed == 0);
    CHECK(num_finite == 0);
  }
}

/// Checks that a bf16 gradient is rounded after the previous one is added: the sums are even
/// numbers above 256 that bf16 has not, and the result is one that it has.
inline void check_rounding_after_addition(const MoeCase& test, const GroupedMode& mode) {
  GroupedGemmCase c(test, mode, DType::bf16);
  const auto all = [](const Shape& shape, double value, DType dtype) {
    return tensor_of(std::vector<double>(shape.numel(), value), shape, dtype);
  };
  c.x = all(c.x.shape(), 1, DType::bf16);
  c.dy = all(c.dy.shape(), 2, DType::bf16);
  const Tensor dw = all(c.empty_dw().shape(), -512, DType::bf16);
  const Tensor db = all(c.empty_db().shape(), -512, DType::bf16);
  c.gradients(dw, db, 1);
  const auto offsets = c.plan.expert_offsets.to_vector<std::int32_t>();
  for (const Tensor& gradient : {dw, db}) {
    const std::vector<double> got = values_of(gradient);
    const std::size_t size = got.size() / test.num_experts;
    std::int64_t num_wrong = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const std::int32_t rows = offsets[i / size + 1] - offsets[i / size];
      REQUIRE(rows < 383);  // the result is below 256
      num_wrong += got[i] != 2 * rows - 512;
    }
    CHECK(num_wrong == 0);
  }
}
/// With 256 to 382 rows per expert; the second and third have more columns than a tile.
inline constexpr MoeCase kRoundedGradientCases[] = {
    {311, 2, 2, 9, 7}, {311, 2, 2, 264, 136}, {620, 2, 4, 72, 328}};

struct GroupCase {
  GroupCase(const MoeCase& test, bool row_per_token, DType dtype) : plan(test.plan()) {
    x = random_normal("x", {row_per_token ? test.num_tokens : plan.num_rows(), test.d}, dtype);
    gates = random_normal("gates", {test.num_tokens, test.top_k}, accumulation_dtype(dtype));
  }

  Tensor run(bool gated) const {
    const Tensor grouped = Tensor::empty({plan.num_rows(), x.dim(1)}, x.dtype());
    kernels::group(launch(), {view_of(plan), matrix_of(x), gated ? gates.data() : nullptr,
                              matrix_of(grouped)});
    return grouped;
  }

  RoutingPlan plan;
  Tensor x, gates;
};

}  // namespace smoe::test
