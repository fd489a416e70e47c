// The output projection and its cross-entropy, one chunk of tokens at a time. While recording, each
// chunk's logits are overwritten with their gradient, from which dx and the weight gradient follow
// at once, so that the logits of all tokens never exist.
#include <algorithm>
#include <limits>

#include "autograd/ops.h"
#include "autograd/ops/check_ids.h"
#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "autograd/tape.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"

namespace smoe {
namespace {

void check_loss(const Variable& x, const Parameter& weight, const Tensor& targets,
                std::int64_t chunk) {
  const bool shapes_fit = x.shape().rank() == 2 && weight.shape().rank() == 2 &&
                          x.dim(1) == weight.shape()[1] && targets.shape() == Shape{x.dim(0)};
  SMOE_CHECK(shapes_fit, "lm_head_loss: x must be [T, D], weight [V, D] and targets [T]; got x ",
             x.shape(), ", ", weight.name(), " ", weight.shape(), ", targets ", targets.shape());
  SMOE_CHECK(is_floating(x.dtype()) && weight.value().dtype() == x.dtype() &&
                 targets.dtype() == DType::i32,
             "lm_head_loss: x and weight must have one floating dtype and targets be i32; got x ",
             name_of(x.dtype()), ", ", weight.name(), " ", name_of(weight.value().dtype()),
             ", targets ", name_of(targets.dtype()));
  check_ids("lm_head_loss", targets, std::numeric_limits<std::int32_t>::min(), weight.shape()[0]);
  SMOE_CHECK(chunk > 0, "lm_head_loss: chunk must be positive; got ", chunk);
}

// The rows of one chunk.
struct Chunk {
  Tensor x;        // [t, D]
  Tensor targets;  // [t]
  Tensor logits;   // [t, V]
  Tensor losses;   // [t]
  Tensor dx;       // [t, D], or undefined if x needs no gradient
  Tensor dweight;  // [V, D], or undefined if the weight is not trained
  double beta;     // of dweight
};

void add_losses(const Chunk& chunk, const Tensor& weight, double scale, bool write_gradient) {
  run_gemm({.a = matrix_of(chunk.x),
            .b = matrix_of(weight),
            .transpose_b = true,
            .c = matrix_of(chunk.logits)});
  kernels::cross_entropy(launch(), {.logits = matrix_of(chunk.logits),
                                    .targets = chunk.targets.data_as<std::int32_t>(),
                                    .losses = chunk.losses.data(),
                                    .write_gradient = write_gradient,
                                    .scale = scale});
  if (!write_gradient) return;
  const Tensor& dlogits = chunk.logits;
  if (chunk.dweight.defined())
    run_gemm({.a = matrix_of(dlogits),
              .transpose_a = true,
              .b = matrix_of(chunk.x),
              .c = matrix_of(chunk.dweight),
              .beta = chunk.beta});
  if (chunk.dx.defined())
    run_gemm({.a = matrix_of(dlogits), .b = matrix_of(weight), .c = matrix_of(chunk.dx)});
}

}  // namespace

Variable lm_head_loss(const Variable& x, Parameter& weight, const Tensor& targets, double scale,
                      std::int64_t chunk) {
  check_loss(x, weight, targets, chunk);
  const std::int64_t num_tokens = x.dim(0);
  const DType sum_dtype = accumulation_dtype(x.dtype());
  const Tensor logits = Tensor::empty({std::min(chunk, num_tokens), weight.shape()[0]}, x.dtype(),
                                      Category::workspace);
  const Tensor losses = Tensor::empty({num_tokens}, sum_dtype, Category::workspace);
  const bool write_gradient = is_recording() && (weight.trains() || x.requires_grad());
  const Tensor dx = write_gradient && x.requires_grad() ? Tensor::empty_like(x.data()) : Tensor();
  const bool trains = write_gradient && weight.trains();
  // Of several chunks, so that a bf16 gradient is rounded once and not once per chunk.
  const bool has_sum = trains && weight.gradient_dtype() == DType::bf16 && num_tokens > chunk;
  const Tensor sum =
      has_sum ? Tensor::empty(weight.shape(), sum_dtype, Category::workspace) : Tensor();
  for (std::int64_t begin = 0; begin < num_tokens; begin += chunk) {
    const std::int64_t end = std::min(begin + chunk, num_tokens);
    Chunk part{.x = x.data().rows(begin, end),
               .targets = targets.rows(begin, end),
               .logits = logits.rows(0, end - begin),
               .losses = losses.rows(begin, end),
               .dx = dx.defined() ? dx.rows(begin, end) : Tensor(),
               .dweight = {},
               .beta = 0};
    if (trains) {
      part.dweight = has_sum ? sum : weight.gradient();
      part.beta = has_sum ? double(begin > 0) : weight.claim_gradient();
    }
    add_losses(part, weight.value(), scale, write_gradient);
  }
  if (has_sum)
    kernels::scale(launch(), {.source = sum.data(),
                              .source_dtype = sum_dtype,
                              .target = weight.gradient().data(),
                              .target_dtype = DType::bf16,
                              .numel = sum.numel(),
                              .scale = 1,
                              .beta = weight.claim_gradient()});
  Tensor total = Tensor::empty({1}, sum_dtype);
  kernels::sum_losses(launch(), {losses.data(), total.data(), sum_dtype, num_tokens, scale});
  return record("lm_head_loss", std::move(total), {&x}, {&weight},
                [dx](Tensor dy, InputGradients& out) {
                  SMOE_CHECK(out.is_unit(dy),
                             "lm_head_loss: its gradients are computed by the forward pass, so it "
                             "must reach the total loss with weight one; put factors into scale");
                  out.give(0, dx);
                });
}

}  // namespace smoe
