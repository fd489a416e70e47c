#include "kernels/norm.h"

#include <doctest/doctest.h>

#include "kernels/combine.h"
#include "tests/kernels/norm_cases.h"
#include "tests/reference/norm.h"
#include "tests/support/compare.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr DType kDtypes[] = {DType::f32, DType::f64, DType::bf16};

constexpr NormSizes kSizes[] = {{1, 1},   {1, 7},   {3, 1},   {5, 33},    {63, 8},
                                {64, 65}, {65, 64}, {129, 5}, {200, 128}, {0, 4}};

}  // namespace

TEST_CASE("rms_norm agrees with plain loops, with and without a residual") {
  const PoisonGuard poison;
  for (const NormSizes& sizes : kSizes)
    for (const DType dtype : kDtypes)
      for (const bool with_delta : {false, true}) {
        const auto [num_tokens, width] = sizes;
        const NormForward norm = run_norm(sizes, dtype, with_delta);
        std::vector<double> x = values_of(norm.x);
        if (with_delta) {
          const std::vector<double> delta = values_of(norm.delta);
          for (std::size_t i = 0; i < x.size(); ++i) x[i] += delta[i];
          check_close("rms_norm: sum", norm.sum, x);
          x = values_of(norm.sum);  // the norm reads the rounded sum
        }
        check_close("rms_norm: y", norm.y,
                    reference::rms_norm(num_tokens, width, x, values_of(norm.weight), kNormEpsilon),
                    {.sum_length = width});
      }
}

TEST_CASE("rms_norm sums a token's rows with the bits of combine and add") {
  const PoisonGuard poison;
  for (const NormSizes& sizes : kSizes)
    for (const DType dtype : kDtypes)
      for (const std::int64_t top_k : {1, 2, 3}) {
        const auto [num_tokens, width] = sizes;
        const FusedForward r = run_fused_norm(sizes, dtype, top_k);
        // The parts: combine, then add and norm.
        const Tensor delta = Tensor::empty_like(r.x), parts_sum = Tensor::empty_like(r.x);
        const Tensor parts_y = Tensor::empty_like(r.x);
        const Tensor inverse_rms = Tensor::empty_like(r.inverse_rms);
        kernels::combine(launch(),
                         {.routing = {.num_tokens = num_tokens,
                                      .top_k = top_k,
                                      .num_experts = 1,
                                      .sorted_scattered_ids = nullptr,
                                      .grouped_rows = r.grouped_rows.data_as<std::int32_t>(),
                                      .expert_offsets = nullptr},
                          .y = {matrix_of(r.rows), kernels::RowLayout::grouped},
                          .out = matrix_of(delta)});
        kernels::rms_norm(launch(), {.x = matrix_of(r.x),
                                     .delta = matrix_of(delta),
                                     .sum = matrix_of(parts_sum),
                                     .weight = r.weight.data(),
                                     .y = matrix_of(parts_y),
                                     .inverse_rms = inverse_rms.data(),
                                     .epsilon = kNormEpsilon});
        check_same_bits("fused norm: sum", r.sum, parts_sum);
        check_same_bits("fused norm: y", r.y, parts_y);
        check_same_bits("fused norm: inverse_rms", r.inverse_rms, inverse_rms);
      }
}

TEST_CASE("rms_norm_backward agrees with the Jacobian, adds dsum, and applies beta") {
  const PoisonGuard poison;
  for (const NormSizes& sizes : kSizes)
    for (const DType dtype : kDtypes)
      for (const bool with_dsum : {false, true})
        for (const double beta : {0.0, 1.0}) {
          const auto [num_tokens, width] = sizes;
          const NormForward norm = run_norm(sizes, dtype, false);
          const NormBackward backward = run_norm_backward(norm, with_dsum, beta);
          auto [dx, dweight] = reference::rms_norm_backward(num_tokens, width, values_of(norm.x),
                                                            values_of(norm.weight), kNormEpsilon,
                                                            values_of(backward.dy));
          const std::vector<double> dsum = values_of(backward.dsum);
          for (std::size_t i = 0; with_dsum && i < dx.size(); ++i) dx[i] += dsum[i];
          const std::vector<double> earlier =
              values_of(random_normal("dweight", {width}, norm.weight.dtype()));
          for (std::int64_t j = 0; j < width; ++j) dweight[j] += beta * earlier[j];
          check_close("rms_norm: dx", backward.dx, dx, {.sum_length = width});
          check_close("rms_norm: dweight", backward.dweight, dweight,
                      {.sum_length = num_tokens + 1});
        }
}

TEST_CASE("a bf16 dweight of rms_norm_backward is the f32 one, rounded once") {
  const PoisonGuard poison;
  for (const NormSizes& sizes : kSizes)
    for (const double beta : {0.0, 1.0}) {
      const NormForward norm = run_norm(sizes, DType::bf16, false);
      const NormBackward rounded = run_norm_backward(norm, true, beta, Over::none, DType::bf16);
      std::vector<double> wanted = values_of(run_norm_backward(norm, true, 0).dweight);
      const std::vector<double> earlier =
          values_of(random_normal("dweight", {sizes.width}, DType::bf16));
      for (std::size_t j = 0; j < wanted.size(); ++j)
        wanted[j] = static_cast<float>(wanted[j]) + static_cast<float>(beta * earlier[j]);
      check_same_bits("rms_norm: dweight", rounded.dweight,
                      tensor_of(wanted, {sizes.width}, DType::bf16));
    }
}

TEST_CASE("rms_norm_backward sums the parts of a gradient as combine, GEMM and add do") {
  const PoisonGuard poison;
  for (const NormSizes& sizes : kSizes)
    for (const DType dtype : kDtypes)
      for (const PartsCase& c : kPartsCases) {
        const auto [num_tokens, width] = sizes;
        const NormForward norm = run_norm(sizes, dtype, false);
        const PartsBackward backward = run_parts_backward(norm, c);
        std::vector<double> dy(num_tokens * width, 0);
        const auto dense = values_of(backward.dense), rows = values_of(backward.rows);
        const auto dlogits = values_of(backward.dlogits), router = values_of(backward.router);
        const auto order = backward.grouped_rows.to_vector<std::int32_t>();
        for (std::int64_t t = 0; t < num_tokens; ++t)
          for (std::int64_t j = 0; j < width; ++j) {
            double& sum = dy[t * width + j];
            if (c.dense) sum += dense[t * width + j];
            for (std::int64_t k = 0; c.rows && k < c.top_k; ++k)
              sum += rows[order[t * c.top_k + k] * width + j];
            for (std::int64_t e = 0; e < c.num_experts; ++e)
              sum += dlogits[t * c.num_experts + e] * router[e * width + j];
          }
        auto [dx, dweight] = reference::rms_norm_backward(num_tokens, width, values_of(norm.x),
                                                          values_of(norm.weight), kNormEpsilon, dy);
        const std::vector<double> dsum =
            values_of(random_normal("dsum", norm.x.shape(), norm.x.dtype()));
        for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += dsum[i];
        const std::vector<double> earlier =
            values_of(random_normal("dweight", {width}, norm.weight.dtype()));
        for (std::int64_t j = 0; j < width; ++j) dweight[j] += earlier[j];
        const std::int64_t length = c.top_k + c.num_experts + 2;
        check_close("parts: dx", backward.dx, dx, {.sum_length = width * length});
        check_close("parts: dweight", backward.dweight, dweight,
                    {.sum_length = (num_tokens + 1) * length});
      }
}

TEST_CASE("rms_norm_backward may write over what it reads") {
  for (const DType dtype : kDtypes) {
    const NormForward norm = run_norm({65, 33}, dtype, false);
    const NormBackward apart = run_norm_backward(norm, true, 0);
    for (const Over over : {Over::dy, Over::dsum, Over::x}) {
      const NormBackward reused = run_norm_backward(norm, true, 0, over);
      check_same_bits("rms_norm: dx in place", reused.dx, apart.dx);
      check_same_bits("rms_norm: dweight in place", reused.dweight, apart.dweight);
    }
  }
}

TEST_CASE("rms_norm's bits do not depend on the number of threads") {
  for (const DType dtype : kDtypes)
    check_thread_independence("rms_norm", [&] {
      const NormForward norm = run_norm({1000, 130}, dtype, true);
      const NormBackward backward = run_norm_backward(norm, true, 1);
      const PartsBackward parts = run_parts_backward(norm, {true, true, 2, 8});
      return std::vector{norm.sum,         norm.y,   norm.inverse_rms, backward.dx,
                         backward.dweight, parts.dx, parts.dweight};
    });
}

TEST_CASE("rms_norm keeps NaNs in their row") {
  const Tensor x = tensor_of({1, NAN, 2, 3, 4, 5}, {2, 3}, DType::f32);
  const Tensor weight = tensor_of({1, 1, 1}, {3}, DType::f32);
  const Tensor y = Tensor::empty_like(x), inverse_rms = Tensor::empty({2}, DType::f32);
  kernels::rms_norm(launch(), {.x = matrix_of(x),
                               .delta = {},
                               .sum = {},
                               .weight = weight.data(),
                               .y = matrix_of(y),
                               .inverse_rms = inverse_rms.data(),
                               .epsilon = kNormEpsilon});
  const std::vector<double> values = values_of(y);
  for (int j = 0; j < 3; ++j) {
    CHECK(std::isnan(values[j]));
    CHECK(std::isfinite(values[3 + j]));
  }
}
