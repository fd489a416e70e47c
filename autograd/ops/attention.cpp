// Causal grouped-query attention on a packed projection: of whole sequences for training, and of
// rows that follow cached ones for generation.
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
  Tensor qkv;        // [T, (H + 2 Hkv) C]
  Tensor output;     // [T, H C]
  Tensor logsumexp;  // [B, H, S]
};

// dqkv, written over qkv if this is the sole reference to it.
Tensor attention_backward(const SavedAttention& saved, const Tensor& dy) {
  Tensor dqkv = saved.qkv.is_sole_reference() ? saved.qkv : Tensor::empty_like(saved.qkv);
  run_kernel(kernels::attention_backward, kernels::attention_backward_workspace_bytes,
             {.qkv = matrix_of(saved.qkv),
              .output = matrix_of(saved.output),
              .doutput = matrix_of(dy),
              .logsumexp = saved.logsumexp.data(),
              .dqkv = matrix_of(dqkv),
              .shape = saved.shape});
  return dqkv;
}

}  // namespace

Variable causal_attention(const Variable& qkv, const AttentionShape& shape) {
  check_packed("causal_attention", qkv, shape);
  SavedAttention saved{shape, qkv.data(),
                       Tensor::empty({shape.num_tokens(), shape.output_width()}, qkv.dtype()),
                       Tensor::empty({shape.batch, shape.num_heads, shape.seq_len},
                                     accumulation_dtype(qkv.dtype()))};
  run_kernel(kernels::attention, kernels::attention_workspace_bytes,
             {.qkv = matrix_of(saved.qkv),
              .output = matrix_of(saved.output),
              .logsumexp = saved.logsumexp.data(),
              .shape = shape});
  Tensor output = saved.output;
  return record("causal_attention", std::move(output), {&qkv}, {},
                [saved = std::move(saved)](Tensor dy, InputGradients& out) {
                  out.give(0, attention_backward(saved, dy));
                });
}

namespace {

void check_cache(const Tensor& qkv, const AttentionShape& shape, const Tensor& cache,
                 std::int64_t num_cached) {
  SMOE_CHECK(!is_recording(), "cached_attention: has no gradient, so it must not be recorded; ",
             "wrap generation in a NoGradScope");
  check_packed("cached_attention", qkv, shape);
  const std::int64_t cached_width = 2 * shape.num_kv_heads * shape.head_dim;
  const bool shapes_fit =
      cache.rank() == 3 && cache.dim(0) == shape.batch && cache.dim(2) == cached_width;
  SMOE_CHECK(shapes_fit && cache.dtype() == qkv.dtype(),
             "cached_attention: cache must be [B=", shape.batch,
             ", capacity, 2 Hkv C=", cached_width, "] in ", name_of(qkv.dtype()), "; got ",
             cache.shape(), " ", name_of(cache.dtype()));
  SMOE_CHECK(num_cached >= 0 && num_cached + shape.seq_len <= cache.dim(1),
             "cached_attention: the cache has room for ", cache.dim(1), " rows; got ",
             shape.seq_len, " more after ", num_cached);
}

}  // namespace

Tensor cached_attention(const Tensor& qkv, const AttentionShape& shape, const Tensor& cache,
                        std::int64_t num_cached) {
  check_cache(qkv, shape, cache, num_cached);
  Tensor output = Tensor::empty({shape.num_tokens(), shape.output_width()}, qkv.dtype());
  run_kernel(kernels::cached_attention, kernels::cached_attention_workspace_bytes,
             {.qkv = matrix_of(qkv),
              .cache = matrix_of(cache),
              .capacity = cache.dim(1),
              .num_cached = num_cached,
              .output = matrix_of(output),
              .shape = shape});
  return output;
}

}  // namespace smoe
