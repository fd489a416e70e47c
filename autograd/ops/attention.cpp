// Causal grouped-query attention on a packed projection.
#include "kernels/attention.h"

#include "autograd/ops.h"
#include "autograd/ops/attention_checks.h"
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

// The gradient of qkv, over qkv itself where nobody else holds it.
Tensor attention_backward(const SavedAttention& saved, const Tensor& dy) {
  Tensor dqkv = saved.qkv.is_sole_reference() ? saved.qkv : Tensor::empty_like(saved.qkv);
  run_kernel(kernels::attention_backward, kernels::attention_backward_workspace_bytes,
             {.qkv = matrix_of(saved.qkv),
              .output = matrix_of(saved.output),
              .doutput = matrix_of(dy),
              .logsumexp = saved.logsumexp.data(),
              .dqkv = matrix_of(dqkv),
              .shape = saved.shape,
              .workspace = nullptr});
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
              .shape = shape,
              .workspace = nullptr});
  Tensor output = saved.output;
  return record("causal_attention", std::move(output), {&qkv}, {},
                [saved = std::move(saved)](Tensor dy, InputGradients& out) {
                  out.give(0, attention_backward(saved, dy));
                });
}

}  // namespace smoe
