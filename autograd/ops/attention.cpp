// Causal grouped-query attention: of whole sequences for training, and of rows that follow cached
// ones for generation. A packed projection is a pair of matrices with one row stride.
#include "kernels/attention.h"

#include "autograd/ops.h"
#include "autograd/ops/attention_checks.h"
#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "autograd/tape.h"

namespace smoe {
namespace {

// What the backward reads.
struct SavedAttention {
  AttentionShape shape;
  Tensor output;     // [T, H C]
  Tensor logsumexp;  // B H S numbers in the order of kernels/attention_order.h
};

SavedAttention attention_forward(const ConstMatrix& q, const ConstMatrix& kv,
                                 const AttentionShape& shape) {
  SavedAttention saved{
      shape, Tensor::empty({shape.num_tokens(), shape.output_width()}, q.dtype),
      Tensor::empty({shape.batch, shape.num_heads, shape.seq_len}, accumulation_dtype(q.dtype))};
  run_kernel(kernels::attention, kernels::attention_workspace_bytes,
             {.q = q,
              .kv = kv,
              .output = matrix_of(saved.output),
              .logsumexp = saved.logsumexp.data(),
              .shape = shape});
  return saved;
}

struct Operands {
  Matrix q;   // [T, H C]
  Matrix kv;  // [T, 2 Hkv C]
};

Operands operands_of(const Tensor& qkv, const AttentionShape& shape) {
  const Matrix packed = matrix_of(qkv);
  return {packed.columns(0, shape.output_width()),
          packed.columns(shape.output_width(), shape.kv_width())};
}

kernels::AttentionBackwardArgs backward_args(const SavedAttention& saved, const Operands& x,
                                             const Tensor& dy, const Operands& dx) {
  return {.q = x.q,
          .kv = x.kv,
          .output = matrix_of(saved.output),
          .doutput = matrix_of(dy),
          .logsumexp = saved.logsumexp.data(),
          .dq = dx.q,
          .dkv = dx.kv,
          .shape = saved.shape};
}

void attention_backward(const SavedAttention& saved, const Operands& x, const Tensor& dy,
                        const Operands& dx) {
  run_kernel(kernels::attention_backward, kernels::attention_backward_workspace_bytes,
             backward_args(saved, x, dy, dx));
}

bool is_in_place(const SavedAttention& saved, const Operands& x, const Tensor& dy) {
  return kernels::attention_backward_is_in_place(launch(), backward_args(saved, x, dy, x));
}

// Memory for the gradient of a saved tensor: the tensor itself if the kernel can work in place and
// this is the sole reference to it.
Tensor gradient_of(const Tensor& saved, bool in_place) {
  return in_place && saved.is_sole_reference() ? saved : Tensor::empty_like(saved);
}

}  // namespace

Variable causal_attention(const Variable& qkv, const AttentionShape& shape) {
  check_heads("causal_attention", shape);
  check_packed("causal_attention", qkv, shape);
  const Operands x = operands_of(qkv.data(), shape);
  SavedAttention saved = attention_forward(x.q, x.kv, shape);
  Tensor output = saved.output;
  return record("causal_attention", std::move(output), {&qkv}, {},
                [saved = std::move(saved), qkv = qkv.data()](Tensor dy, InputGradients& out) {
                  const Operands x = operands_of(qkv, saved.shape);
                  Tensor dqkv = gradient_of(qkv, is_in_place(saved, x, dy));
                  attention_backward(saved, x, dy, operands_of(dqkv, saved.shape));
                  out.give(0, std::move(dqkv));
                });
}

Variable causal_attention(const Variable& q, const Variable& kv, const AttentionShape& shape) {
  check_heads("causal_attention", shape);
  check_apart("causal_attention", q, kv, shape);
  SavedAttention saved = attention_forward(matrix_of(q.data()), matrix_of(kv.data()), shape);
  Tensor output = saved.output;
  return record(
      "causal_attention", std::move(output), {&q, &kv}, {},
      [saved = std::move(saved), q = q.data(), kv = kv.data()](Tensor dy, InputGradients& out) {
        const Operands x{matrix_of(q), matrix_of(kv)};
        const bool in_place = is_in_place(saved, x, dy);
        Tensor dq = gradient_of(q, in_place), dkv = gradient_of(kv, in_place);
        attention_backward(saved, x, dy, {matrix_of(dq), matrix_of(dkv)});
        out.give(0, std::move(dq));
        out.give(1, std::move(dkv));
      });
}

namespace {

void check_cache(DType dtype, const AttentionShape& shape, const Tensor& cache,
                 std::int64_t num_cached) {
  SMOE_CHECK(!is_recording(), "cached_attention: has no gradient, so it must not be recorded; ",
             "wrap generation in a NoGradScope");
  const std::int64_t cached_width = shape.kv_width();
  const bool shapes_fit =
      cache.rank() == 3 && cache.dim(0) == shape.batch && cache.dim(2) == cached_width;
  SMOE_CHECK(shapes_fit && cache.dtype() == dtype,
             "cached_attention: cache must be [B=", shape.batch,
             ", capacity, 2 Hkv C=", cached_width, "] in ", name_of(dtype), "; got ", cache.shape(),
             " ", name_of(cache.dtype()));
  SMOE_CHECK(num_cached >= 0 && num_cached + shape.seq_len <= cache.dim(1),
             "cached_attention: the cache has room for ", cache.dim(1), " rows; got ",
             shape.seq_len, " more after ", num_cached);
}

Tensor attend_cached(const Operands& x, const AttentionShape& shape, const Tensor& cache,
                     std::int64_t num_cached) {
  check_cache(x.q.dtype, shape, cache, num_cached);
  Tensor output = Tensor::empty({shape.num_tokens(), shape.output_width()}, x.q.dtype);
  run_kernel(kernels::cached_attention, kernels::cached_attention_workspace_bytes,
             {.q = x.q,
              .kv = x.kv,
              .cache = matrix_of(cache),
              .capacity = cache.dim(1),
              .num_cached = num_cached,
              .output = matrix_of(output),
              .shape = shape});
  return output;
}

}  // namespace

Tensor cached_attention(const Tensor& qkv, const AttentionShape& shape, const Tensor& cache,
                        std::int64_t num_cached) {
  check_heads("cached_attention", shape);
  check_packed("cached_attention", qkv, shape);
  return attend_cached(operands_of(qkv, shape), shape, cache, num_cached);
}

Tensor cached_attention(const Tensor& q, const Tensor& kv, const AttentionShape& shape,
                        const Tensor& cache, std::int64_t num_cached) {
  check_heads("cached_attention", shape);
  check_apart("cached_attention", q, kv, shape);
  return attend_cached({matrix_of(q), matrix_of(kv)}, shape, cache, num_cached);
}

}  // namespace smoe
