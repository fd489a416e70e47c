// Losses of whole tensors. Their gradients are computed in backward, so a loss may reach the total
// with any weight.
#include <limits>

#include "autograd/ops.h"
#include "autograd/ops/check_ids.h"
#include "autograd/ops/views.h"
#include "autograd/tape.h"
#include "core/device.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"

namespace smoe {
namespace {

// scale * sum of terms, which are in an accumulation dtype.
Tensor sum_of(const Tensor& terms, double scale) {
  Tensor total = Tensor::empty({1}, terms.dtype());
  kernels::sum_losses(launch(), {.losses = terms.data(),
                                 .total = total.data(),
                                 .dtype = terms.dtype(),
                                 .numel = terms.numel(),
                                 .scale = scale});
  return total;
}

// Multiplies dx by the loss's own gradient, where that is not one.
void multiply_by(const Tensor& dx, const Tensor& dy, const InputGradients& out) {
  if (out.is_unit(dy)) return;
  kernels::scale_by(launch(), {.source = dx.data(),
                               .target = dx.data(),
                               .dtype = dx.dtype(),
                               .numel = dx.numel(),
                               .scalar = dy.data()});
}

}  // namespace

Variable sum(const Variable& x) {
  SMOE_CHECK(is_floating(x.dtype()), "sum: x must be floating; got ", name_of(x.dtype()));
  Tensor terms = x.data();
  if (const DType dtype = accumulation_dtype(x.dtype()); dtype != x.dtype()) {
    terms = Tensor::empty(x.shape(), dtype, Category::workspace);
    kernels::scale(launch(), {x.data().data(), x.dtype(), terms.data(), dtype, terms.numel()});
  }
  return record("sum", sum_of(terms, 1), {&x}, {},
                [shape = x.shape(), dtype = x.dtype()](Tensor dy, InputGradients& out) {
                  Tensor dx = Tensor::empty(shape, dtype);
                  kernels::scale_by(launch(), {.source = nullptr,
                                               .target = dx.data(),
                                               .dtype = dtype,
                                               .numel = dx.numel(),
                                               .scalar = dy.data()});
                  out.give(0, std::move(dx));
                });
}

Variable mean_squared_error(const Variable& x, const Tensor& target) {
  SMOE_CHECK(x.shape() == target.shape() && x.dtype() == target.dtype() && is_floating(x.dtype()),
             "mean_squared_error: x and target must have one shape and floating dtype; got ",
             x.shape(), " ", name_of(x.dtype()), " and ", target.shape(), " ",
             name_of(target.dtype()));
  const std::int64_t numel = target.numel();
  SMOE_CHECK(numel > 0, "mean_squared_error: x must have elements; got ", x.shape());
  const Tensor squares =
      Tensor::empty(x.shape(), accumulation_dtype(x.dtype()), Category::workspace);
  kernels::squared_difference(launch(),
                              {x.data().data(), target.data(), squares.data(), x.dtype(), numel});
  return record("mean_squared_error", sum_of(squares, 1.0 / static_cast<double>(numel)), {&x}, {},
                [x = x.data(), target, numel](Tensor dy, InputGradients& out) {
                  Tensor dx = x.is_sole_reference() ? x : Tensor::empty_like(x);
                  kernels::scaled_difference(launch(),
                                             {x.data(), target.data(), dx.data(), x.dtype(), numel,
                                              2.0 / static_cast<double>(numel)});
                  multiply_by(dx, dy, out);
                  out.give(0, std::move(dx));
                });
}

Variable softmax_cross_entropy(const Variable& logits, const Tensor& targets, double scale) {
  SMOE_CHECK(logits.shape().rank() == 2 && is_floating(logits.dtype()) &&
                 targets.shape() == Shape{logits.dim(0)} && targets.dtype() == DType::i32,
             "softmax_cross_entropy: logits must be a floating [T, V] and targets i32 [T]; got ",
             logits.shape(), " ", name_of(logits.dtype()), " and ", targets.shape(), " ",
             name_of(targets.dtype()));
  check_ids("softmax_cross_entropy", targets, -1, logits.dim(1));
  const Tensor losses =
      Tensor::empty({logits.dim(0)}, accumulation_dtype(logits.dtype()), Category::workspace);
  const auto run = [targets, scale](const Tensor& logits, const Tensor& losses,
                                    bool write_gradient) {
    kernels::cross_entropy(launch(), {.logits = matrix_of(logits),
                                      .targets = targets.data_as<std::int32_t>(),
                                      .losses = losses.data(),
                                      .write_gradient = write_gradient,
                                      .scale = scale});
  };
  run(logits.data(), losses, false);
  return record("softmax_cross_entropy", sum_of(losses, scale), {&logits}, {},
                [run, logits = logits.data()](Tensor dy, InputGradients& out) {
                  Tensor dlogits =
                      logits.is_sole_reference() ? logits : logits.clone(Category::activations);
                  const Tensor losses = Tensor::empty(
                      {logits.dim(0)}, accumulation_dtype(logits.dtype()), Category::workspace);
                  run(dlogits, losses, true);
                  multiply_by(dlogits, dy, out);
                  out.give(0, std::move(dlogits));
                });
}

}  // namespace smoe
