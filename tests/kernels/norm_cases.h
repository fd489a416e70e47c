// Cases of kernels/norm.h on the current stream.
#pragma once
#include "autograd/ops/run_kernel.h"
#include "kernels/norm.h"
#include "tests/support/tensors.h"

namespace smoe::test {

// Large, so that rows of one element, whose gradient is all epsilon, are well conditioned.
inline constexpr double kNormEpsilon = 1;

struct NormSizes {
  std::int64_t num_tokens, width;
};

/// The input whose memory an output reuses.
enum class Over { none, x, delta, dy, dsum };

struct NormForward {
  Tensor x, delta, weight, sum, y, inverse_rms;
};

/// `sum` may reuse delta and `y` may reuse x.
inline NormForward run_norm(const NormSizes& sizes, DType dtype, bool with_delta,
                            Over over = Over::none) {
  const Shape shape{sizes.num_tokens, sizes.width};
  const DType acc = accumulation_dtype(dtype);
  NormForward norm{.x = random_normal("x", shape, dtype),
                   .delta = random_normal("delta", shape, dtype),
                   .weight = random_normal("weight", {sizes.width}, acc),
                   .sum = {},
                   .y = {},
                   .inverse_rms = Tensor::empty({sizes.num_tokens}, acc)};
  norm.sum = over == Over::delta ? norm.delta : Tensor::empty(shape, dtype);
  norm.y = over == Over::x ? norm.x : Tensor::empty(shape, dtype);
  kernels::rms_norm(launch(), {.x = matrix_of(norm.x),
                               .delta = with_delta ? matrix_of(norm.delta) : ConstMatrix(),
                               .sum = with_delta ? matrix_of(norm.sum) : Matrix(),
                               .weight = norm.weight.data(),
                               .y = matrix_of(norm.y),
                               .inverse_rms = norm.inverse_rms.data(),
                               .epsilon = kNormEpsilon});
  return norm;
}

struct FusedForward {
  Tensor x, rows, grouped_rows, weight, sum, y, inverse_rms;
};

/// An order of n grouped rows: 7 apart, modulo n, or a rotation.
inline Tensor scattered_order(std::int64_t n) {
  std::vector<std::int32_t> order(n);
  for (std::int64_t i = 0; i < n; ++i)
    order[i] = static_cast<std::int32_t>(n % 7 ? i * 7 % n : (i + 3) % n);
  return Tensor::from(order, {n});
}

/// The norm of x plus the sum of each token's rows.
inline FusedForward run_fused_norm(const NormSizes& sizes, DType dtype, std::int64_t top_k) {
  const auto [tokens, width] = sizes;
  const Shape shape{tokens, width};
  const DType acc = accumulation_dtype(dtype);
  FusedForward r{.x = random_normal("x", shape, dtype),
                 .rows = random_normal("rows", {tokens * top_k, width}, dtype),
                 .grouped_rows = scattered_order(tokens * top_k),
                 .weight = random_normal("weight", {width}, acc),
                 .sum = Tensor::empty(shape, dtype),
                 .y = Tensor::empty(shape, dtype),
                 .inverse_rms = Tensor::empty({tokens}, acc)};
  kernels::RmsNormArgs args{.x = matrix_of(r.x),
                            .delta = matrix_of(r.rows),
                            .sum = matrix_of(r.sum),
                            .weight = r.weight.data(),
                            .y = matrix_of(r.y),
                            .inverse_rms = r.inverse_rms.data(),
                            .epsilon = kNormEpsilon,
                            .grouped_rows = r.grouped_rows.data_as<std::int32_t>(),
                            .top_k = top_k};
  kernels::rms_norm(launch(), args);
  return r;
}

struct NormBackward {
  Tensor dy, dsum, dx, dweight;
};

/// The gradient of norm.x; dx may reuse dy, dsum or a copy of x.
inline NormBackward run_norm_backward(const NormForward& norm, bool with_dsum, double beta,
                                      Over over, DType dweight_dtype) {
  NormBackward result{
      .dy = random_normal("dy", norm.x.shape(), norm.x.dtype()),
      .dsum = random_normal("dsum", norm.x.shape(), norm.x.dtype()),
      .dx = {},
      .dweight = beta == 0 ? Tensor::empty(norm.weight.shape(), dweight_dtype)
                           : random_normal("dweight", norm.weight.shape(), dweight_dtype)};
  const Tensor x = over == Over::x ? norm.x.clone(Category::activations) : norm.x;
  result.dx = over == Over::none ? Tensor::empty_like(norm.x)
              : over == Over::dy ? result.dy
              : over == Over::x  ? x
                                 : result.dsum;
  run_kernel(kernels::rms_norm_backward, kernels::rms_norm_backward_workspace_bytes,
             {.x = matrix_of(x),
              .inverse_rms = norm.inverse_rms.data(),
              .weight = norm.weight.data(),
              .dy = {.dense = matrix_of(result.dy)},
              .dsum = with_dsum ? matrix_of(result.dsum) : ConstMatrix(),
              .dx = matrix_of(result.dx),
              .dweight = result.dweight.data(),
              .dweight_dtype = dweight_dtype,
              .beta = beta});
  return result;
}

inline NormBackward run_norm_backward(const NormForward& norm, bool with_dsum, double beta,
                                      Over over = Over::none) {
  return run_norm_backward(norm, with_dsum, beta, over, norm.weight.dtype());
}

/// Which parts of a gradient are there.
struct PartsCase {
  bool dense, rows;
  std::int64_t top_k, num_experts;  // no experts: no dlogits
};

struct PartsBackward {
  Tensor dense, rows, grouped_rows, dlogits, router, dsum, dx, dweight;
};

/// The gradient of norm.x from parts; dx reuses `over`, dweight is accumulated.
inline PartsBackward run_parts_backward(const NormForward& norm, const PartsCase& c,
                                        Over over = Over::none) {
  const std::int64_t tokens = norm.x.dim(0), width = norm.x.dim(1), n = tokens * c.top_k;
  const DType dtype = norm.x.dtype(), acc = accumulation_dtype(dtype);
  PartsBackward r{.dense = random_normal("dense", norm.x.shape(), dtype),
                  .rows = random_normal("rows", {n, width}, dtype),
                  .grouped_rows = scattered_order(n),
                  .dlogits = random_normal("dlogits", {tokens, c.num_experts}, acc),
                  .router = random_normal("router", {c.num_experts, width}, acc),
                  .dsum = random_normal("dsum", norm.x.shape(), dtype),
                  .dx = {},
                  .dweight = random_normal("dweight", norm.weight.shape(), acc)};
  r.dx = over == Over::dy ? r.dense : over == Over::dsum ? r.dsum : Tensor::empty_like(norm.x);
  kernels::GradientParts dy;
  if (c.dense) dy.dense = matrix_of(r.dense);
  if (c.rows) {
    dy.rows = matrix_of(r.rows);
    dy.grouped_rows = r.grouped_rows.data_as<std::int32_t>();
    dy.top_k = c.top_k;
  }
  if (c.num_experts > 0) {
    dy.dlogits = matrix_of(r.dlogits);
    dy.weight = matrix_of(r.router);
  }
  run_kernel(kernels::rms_norm_backward, kernels::rms_norm_backward_workspace_bytes,
             {.x = matrix_of(norm.x),
              .inverse_rms = norm.inverse_rms.data(),
              .weight = norm.weight.data(),
              .dy = dy,
              .dsum = matrix_of(r.dsum),
              .dx = matrix_of(r.dx),
              .dweight = r.dweight.data(),
              .dweight_dtype = acc,
              .beta = 1});
  return r;
}

inline constexpr PartsCase kPartsCases[] = {
    {false, true, 2, 0}, {false, true, 2, 8}, {true, true, 1, 3}, {false, false, 1, 5},
    {true, true, 3, 12}, {true, false, 1, 8}, {false, true, 9, 2}};

}  // namespace smoe::test
