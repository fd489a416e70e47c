#include "train/bench/linear_variant.h"

#include "autograd/ops.h"
#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "kernels/combine.h"
#include "train/bench/op_variant.h"
#include "train/bench/row_copies.h"

namespace smoe {
namespace {

using kernels::RoutedRows;
using kernels::RoutingView;

RoutedRows grouped_rows(const Tensor& x) {
  return {matrix_of(x), RowLayout::grouped};
}

// Kernels of one ParallelLinear on its inputs.
class LinearKernels : public ExpertVariant {
 public:
  using ExpertVariant::ExpertVariant;

 protected:
  const LinearMode& mode() const { return *in_.mode; }
  std::int64_t num_rows() const { return in_.shape.num_rows(); }
  RoutingView routing() const { return view_of(in_.plan); }
  Tensor new_rows(std::int64_t cols) const {
    return Tensor::empty({num_rows(), cols}, in_.shape.dtype);
  }
  Tensor new_output() const {
    return Tensor::empty({in_.shape.num_tokens, in_.shape.d_expert}, in_.shape.dtype);
  }

  // y = x W^T, + bias unless it has no data.
  void multiply(const RoutedRows& x, const Tensor& y, RowLayout y_layout,
                const Matrix& bias) const {
    run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
               {.routing = routing(),
                .x = x,
                .weight = experts_of(in_.w1),
                .bias = bias,
                .y = matrix_of(y),
                .y_layout = y_layout});
  }
  // dx = dy W.
  void multiply_back(const RoutedRows& dy, const Tensor& dx_rows, RowLayout layout) const {
    run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
               {.routing = routing(),
                .x = dy,
                .weight = experts_of(in_.w1),
                .transpose_weight = true,
                .y = matrix_of(dx_rows),
                .y_layout = layout});
  }
  void accumulate(const RoutedRows& dy, const RoutedRows& x, bool has_bias) {
    const DType dtype = accumulation_dtype(in_.shape.dtype);
    dw1 = Tensor::empty(in_.w1.shape(), dtype, Category::gradients);
    if (has_bias) dw2 = Tensor::empty(in_.bias.shape(), dtype, Category::gradients);
    run_kernel(kernels::expert_gradient, kernels::expert_gradient_workspace_bytes,
               {.routing = routing(),
                .dy = dy,
                .x = x,
                .dtype = dtype,
                .dweight = dw1.data(),
                .dbias = has_bias ? dw2.data() : nullptr});
  }
  void combine(const Tensor& rows, const void* gates, const Tensor& out) const {
    kernels::combine(
        launch(),
        {.routing = routing(), .y = grouped_rows(rows), .gates = gates, .out = matrix_of(out)});
  }
  Tensor gate_gradient(const Tensor& y) const {
    const Tensor dgates = Tensor::empty_like(in_.gates);
    kernels::combine_gates_backward(launch(), {.routing = routing(),
                                               .y = grouped_rows(y),
                                               .dout = matrix_of(in_.dout),
                                               .dgates = dgates.data()});
    return dgates;
  }
};

// The sequence of ops/parallel_linear.cpp without its reuse.
class SeparateLinear : public LinearKernels {
 public:
  using LinearKernels::LinearKernels;

  Tensor forward(bool trains) override {
    const Tensor x = in_.x.clone(Category::activations);
    const RowLayout layout = mode().has_gates ? RowLayout::grouped : mode().output;
    const Tensor y = new_rows(in_.shape.d_expert);
    multiply({matrix_of(x), mode().input}, y, layout, matrix_of(in_.bias));
    if (trains) x_ = x;
    if (!mode().has_gates) return y;
    const Tensor out = new_output();
    combine(y, in_.gates.data(), out);
    if (trains) y_ = y;
    return out;
  }

  void backward() override {
    Tensor dy = in_.dout, dgates;
    if (mode().has_gates) {
      dgates = Tensor::empty_like(in_.gates);
      dy = new_rows(in_.shape.d_expert);
      combine_backward(dgates, dy);
    }
    const RoutedRows rows{matrix_of(dy), mode().has_gates ? RowLayout::grouped : mode().output};
    accumulate(rows, {matrix_of(x_), mode().input}, !mode().has_gates);
    dx = Tensor::empty_like(x_);
    if (mode().is_per_token) {
      const Tensor routed = new_rows(in_.shape.d_model);
      multiply_back(rows, routed, RowLayout::grouped);
      combine(routed, nullptr, dx);
    } else {
      multiply_back(rows, dx, mode().input);
    }
    x_ = y_ = Tensor();
  }

 private:
  void combine_backward(const Tensor& dgates, const Tensor& dy) {
    dw2 = Tensor::empty(in_.bias.shape(), accumulation_dtype(in_.shape.dtype), Category::gradients);
    run_kernel(kernels::combine_backward, kernels::combine_backward_workspace_bytes,
               {.routing = routing(),
                .y = matrix_of(y_),
                .dout = matrix_of(in_.dout),
                .gates = in_.gates.data(),
                .dgates = dgates.data(),
                .dy = matrix_of(dy),
                .dbias_dtype = dw2.dtype(),
                .dbias = dw2.data()});
  }

  Tensor x_, y_;
};

// Only grouped rows are multiplied.
class GatheredLinear : public LinearKernels {
 public:
  using LinearKernels::LinearKernels;

  Tensor forward(bool trains) override {
    const Tensor x = mode().input == RowLayout::grouped ? in_.x.clone(Category::activations)
                                                        : grouped_copy(in_.plan, in_.x);
    const Tensor y = new_rows(in_.shape.d_expert);
    multiply(grouped_rows(x), y, RowLayout::grouped, matrix_of(in_.bias));
    if (trains) x_ = x;
    if (!mode().has_gates)
      return mode().output == RowLayout::grouped ? y : scattered_copy(in_.plan, y);
    if (trains) y_ = y;
    const Tensor out = new_output();
    combine(y, in_.gates.data(), out);
    return out;
  }

  void backward() override {
    Tensor dy = in_.dout, dgates;
    if (mode().has_gates) dgates = gate_gradient(y_);
    y_ = Tensor();
    if (mode().has_gates || mode().output == RowLayout::scattered)
      dy = grouped_copy(in_.plan, in_.dout, mode().has_gates ? in_.gates : Tensor());
    accumulate(grouped_rows(dy), grouped_rows(x_), true);
    x_ = Tensor();
    const Tensor routed = new_rows(in_.shape.d_model);
    multiply_back(grouped_rows(dy), routed, RowLayout::grouped);
    dy = Tensor();
    if (mode().is_per_token) {
      dx = Tensor::empty_like(in_.x);
      combine(routed, nullptr, dx);
    } else {
      dx = mode().input == RowLayout::grouped ? routed : scattered_copy(in_.plan, routed);
    }
  }

 private:
  Tensor x_, y_;
};

// The sequence of ops/moe_mlp.cpp without activation and gates: up reads x by token, and the rows
// of dx are combined if the mode has one x per token; down combines its rows, and its backward
// reads dout by token.
class MoeMlpGemms : public LinearKernels {
 public:
  using LinearKernels::LinearKernels;

  Tensor forward(bool trains) override {
    const Tensor y = new_rows(in_.shape.d_expert);
    multiply(x_rows(), y, RowLayout::grouped, {});
    if (!mode().has_gates) {
      if (trains) dy_ = y;
      return y;
    }
    const Tensor out = new_output();
    combine(y, nullptr, out);
    return out;
  }

  void backward() override {
    const RoutedRows dy = mode().has_gates ? RoutedRows{matrix_of(in_.dout), RowLayout::scattered}
                                           : grouped_rows(dy_);
    accumulate(dy, x_rows(), false);
    const Tensor routed = new_rows(in_.shape.d_model);
    multiply_back(dy, routed, RowLayout::grouped);
    dx = routed;
    dy_ = Tensor();
    if (!mode().is_per_token) return;
    dx = Tensor::empty_like(in_.x);
    combine(routed, nullptr, dx);
  }

 private:
  RoutedRows x_rows() const {
    if (mode().has_gates) return grouped_rows(in_.x);
    return {matrix_of(in_.x.rows(0, in_.shape.num_tokens)), RowLayout::scattered};
  }

  Tensor dy_;  // any values: the rows of the output
};

// The op, as a module calls it.
class OpLinear : public OpVariant {
 public:
  explicit OpLinear(const ExpertInputs& inputs)
      : OpVariant(inputs, {inputs.w1, inputs.bias}, true) {}

 private:
  Variable run(Variable x, const Variable& gates) override {
    const LinearMode& mode = *in_.mode;
    return parallel_linear(x, parameter(0), in_.plan,
                           {.input = mode.input, .output = mode.output, .bias = &parameter(1)},
                           mode.has_gates ? gates : Variable());
  }
};

}  // namespace

std::unique_ptr<ExpertVariant> make_linear_variant(VariantKind kind, const ExpertInputs& inputs) {
  if (kind == VariantKind::smoe) return std::make_unique<OpLinear>(inputs);
  if (kind == VariantKind::smoe_no_reuse) return std::make_unique<SeparateLinear>(inputs);
  if (kind == VariantKind::moe_mlp_gemms) return std::make_unique<MoeMlpGemms>(inputs);
  return std::make_unique<GatheredLinear>(inputs);
}

}  // namespace smoe
