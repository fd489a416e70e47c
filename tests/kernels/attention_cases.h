// Cases of kernels/attention.h on the current stream.
#pragma once
#include "autograd/ops/run_kernel.h"
#include "kernels/attention.h"
#include "tests/kernels/rotary_cases.h"

namespace smoe::test {

struct AttentionForward {
  Tensor qkv, output, logsumexp;
};

inline AttentionForward run_attention(const kernels::AttentionShape& shape, const Tensor& qkv) {
  AttentionForward result{
      .qkv = qkv,
      .output = Tensor::empty({shape.num_tokens(), shape.output_width()}, qkv.dtype()),
      .logsumexp = Tensor::empty({shape.batch, shape.num_heads, shape.seq_len},
                                 accumulation_dtype(qkv.dtype()))};
  run_kernel(kernels::attention, kernels::attention_workspace_bytes,
             {.q = matrix_of(qkv).columns(0, shape.output_width()),
              .kv = matrix_of(qkv).columns(shape.output_width(), shape.kv_width()),
              .output = matrix_of(result.output),
              .logsumexp = result.logsumexp.data(),
              .shape = shape});
  return result;
}

inline Tensor random_doutput(const kernels::AttentionShape& shape, DType dtype) {
  return random_normal("doutput", {shape.num_tokens(), shape.output_width()}, dtype);
}

inline kernels::AttentionBackwardArgs attention_backward_args(const kernels::AttentionShape& shape,
                                                              const AttentionForward& forward,
                                                              const Tensor& doutput,
                                                              const Tensor& dqkv) {
  return {.q = matrix_of(forward.qkv).columns(0, shape.output_width()),
          .kv = matrix_of(forward.qkv).columns(shape.output_width(), shape.kv_width()),
          .output = matrix_of(forward.output),
          .doutput = matrix_of(doutput),
          .logsumexp = forward.logsumexp.data(),
          .dq = matrix_of(dqkv).columns(0, shape.output_width()),
          .dkv = matrix_of(dqkv).columns(shape.output_width(), shape.kv_width()),
          .shape = shape};
}

/// Writes the gradient to `dqkv`, which may be forward.qkv if the kernel can work in place, and
/// returns it.
inline Tensor run_attention_backward(const kernels::AttentionShape& shape,
                                     const AttentionForward& forward, const Tensor& doutput,
                                     const Tensor& dqkv) {
  run_kernel(kernels::attention_backward, kernels::attention_backward_workspace_bytes,
             attention_backward_args(shape, forward, doutput, dqkv));
  return dqkv;
}

/// Appends the rows of `qkv` to `cache` [B*capacity, 2 Hkv C], which holds `num_cached` rows per
/// sequence, and returns the output.
inline Tensor run_cached_attention(const kernels::AttentionShape& shape, const Tensor& qkv,
                                   const Tensor& cache, std::int64_t capacity,
                                   std::int64_t num_cached) {
  const Tensor output = Tensor::empty({shape.num_tokens(), shape.output_width()}, qkv.dtype());
  run_kernel(kernels::cached_attention, kernels::cached_attention_workspace_bytes,
             {.q = matrix_of(qkv).columns(0, shape.output_width()),
              .kv = matrix_of(qkv).columns(shape.output_width(), shape.kv_width()),
              .cache = matrix_of(cache),
              .capacity = capacity,
              .num_cached = num_cached,
              .output = matrix_of(output),
              .shape = shape});
  return output;
}

}  // namespace smoe::test
