// A bias added to every row. Both directions are GEMMs with a column of ones, which sum in the
// accumulation dtype: y = ones b + x; db = dy^T ones.
#include "autograd/ops.h"
#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "autograd/tape.h"
#include "kernels/elementwise.h"

namespace smoe {
namespace {

Tensor ones(std::int64_t count, DType dtype) {
  Tensor ones = Tensor::empty({count, 1}, dtype, Category::workspace);
  kernels::fill(launch(), {ones.data(), dtype, count, 1.0});
  return ones;
}

// A vector [D] as a matrix of `rows` rows.
Matrix matrix_of(const Tensor& vector, std::int64_t rows) {
  return smoe::matrix_of(vector.reshape({rows, vector.numel() / rows}));
}

}  // namespace

Variable add_bias(Variable x, Parameter& bias) {
  SMOE_CHECK(x.shape().rank() == 2 && bias.shape() == Shape{x.dim(1)} && is_floating(x.dtype()),
             "add_bias: x must be a floating [T, D] and the bias [D]; got x ", x.shape(), " ",
             name_of(x.dtype()), ", ", bias.name(), " ", bias.shape());
  Tensor y = x.data().is_sole_reference() ? x.data() : x.data().clone(Category::activations);
  run_gemm({.a = smoe::matrix_of(ones(y.dim(0), y.dtype())),
            .b = matrix_of(bias.value(), 1),
            .c = smoe::matrix_of(y),
            .beta = 1});
  return record("add_bias", std::move(y), {&x}, {&bias}, [&bias](Tensor dy, InputGradients& out) {
    if (bias.trains())
      run_gemm({.a = smoe::matrix_of(dy),
                .transpose_a = true,
                .b = smoe::matrix_of(ones(dy.dim(0), dy.dtype())),
                .c = matrix_of(bias.gradient(), bias.numel()),
                .beta = bias.claim_gradient()});
    out.give(0, std::move(dy));
  });
}

}  // namespace smoe
