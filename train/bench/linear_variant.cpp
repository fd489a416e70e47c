#include "train/bench/linear_variant.h"

#include <optional>

#include "autograd/gradient_step.h"
#include "autograd/ops.h"
#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "kernels/combine.h"

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

  // y = x W^T + bias.
  void multiply(const RoutedRows& x, const Tensor& y, RowLayout y_layout) const {
    run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
               {.routing = routing(),
                .x = x,
                .weight = experts_of(in_.w1),
                .bias = matrix_of(in_.bias),
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
  void accumulate(const RoutedRows& dy, const RoutedRows& x) {
    const DType dtype = accumulation_dtype(in_.shape.dtype);
    dw1 = Tensor::empty(in_.w1.shape(), dtype, Category::gradients);
    dw2 = Tensor::empty(in_.bias.shape(), dtype, Category::gradients);
    run_kernel(
        kernels::expert_gradient, kernels::expert_gradient_workspace_bytes,
        {.routing = routing(), .dy = dy, .x = x, .dweight = dw1.data(), .dbias = dw2.data()});
  }
  void combine(const Tensor& rows, const void* gates, const Tensor& out) const {
    kernels::combine(
        launch(),
        {.routing = routing(), .y = grouped_rows(rows), .gates = gates, .out = matrix_of(out)});
  }
  Tensor group(const Tensor& x, const void* gates) const {
    const Tensor rows = new_rows(x.dim(1));
    kernels::group(
        launch(),
        {.routing = routing(), .x = matrix_of(x), .gates = gates, .grouped = matrix_of(rows)});
    return rows;
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
    multiply({matrix_of(x), mode().input}, y, layout);
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
      dgates = gate_gradient(y_);
      dy = group(in_.dout, in_.gates.data());
    }
    const RoutedRows rows{matrix_of(dy), mode().has_gates ? RowLayout::grouped : mode().output};
    accumulate(rows, {matrix_of(x_), mode().input});
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
  Tensor x_, y_;
};

// Only grouped rows are multiplied.
class GatheredLinear : public LinearKernels {
 public:
  using LinearKernels::LinearKernels;

  Tensor forward(bool trains) override {
    const Tensor x = mode().input == RowLayout::grouped ? in_.x.clone(Category::activations)
                                                        : group(in_.x, nullptr);
    const Tensor y = new_rows(in_.shape.d_expert);
    multiply(grouped_rows(x), y, RowLayout::grouped);
    if (trains) x_ = x;
    if (!mode().has_gates) return mode().output == RowLayout::grouped ? y : scatter(y);
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
      dy = group(in_.dout, mode().has_gates ? in_.gates.data() : nullptr);
    accumulate(grouped_rows(dy), grouped_rows(x_));
    x_ = Tensor();
    const Tensor routed = new_rows(in_.shape.d_model);
    multiply_back(grouped_rows(dy), routed, RowLayout::grouped);
    dy = Tensor();
    if (mode().is_per_token) {
      dx = Tensor::empty_like(in_.x);
      combine(routed, nullptr, dx);
    } else {
      dx = mode().input == RowLayout::grouped ? routed : scatter(routed);
    }
  }

 private:
  // A copy in scattered order: the inverse of group, by the inverse indices.
  Tensor scatter(const Tensor& rows) const {
    const Tensor copy = new_rows(rows.dim(1));
    RoutingView inverse = routing();
    inverse.num_tokens = num_rows();
    inverse.top_k = 1;
    std::swap(inverse.sorted_scattered_ids, inverse.grouped_rows);
    kernels::group(launch(),
                   {.routing = inverse, .x = matrix_of(rows), .grouped = matrix_of(copy)});
    return copy;
  }

  Tensor x_, y_;
};

// The op, as a module calls it. dx is written over x: it is the x of the next run, whose values
// differ, but not its time.
class OpLinear : public ExpertVariant {
 public:
  explicit OpLinear(const ExpertInputs& inputs)
      : ExpertVariant(inputs),
        weight_("weight", inputs.w1.shape(), Init::constant(0)),
        bias_("bias", inputs.bias.shape(), Init::constant(0)),
        store_({&weight_, &bias_},
               {.master = accumulation_dtype(inputs.shape.dtype), .compute = inputs.shape.dtype}) {
    weight_.value().copy_from(inputs.w1);
    bias_.value().copy_from(inputs.bias);
  }

  Tensor forward(bool trains) override {
    if (!trains) {
      const NoGradScope no_grad;
      return run(in_.x, in_.gates).data();
    }
    const TapeScope scope(tape_);
    step_.emplace(store_);
    Variable x = tape_.watch(dx.defined() ? std::move(dx) : in_.x.clone(Category::activations));
    dx = Tensor();
    x_ = Variable(Tensor(), x.place());
    const Variable y = run(std::move(x), tape_.watch(in_.gates));
    y_ = Variable(Tensor(), y.place());
    return y.data();
  }

  void backward() override {
    const WatchedGradients gradients = tape_.backward({y_}, {in_.dout});
    step_.reset();
    dx = gradients.of(x_);
    dw1 = weight_.gradient();
    dw2 = bias_.gradient();
  }

 private:
  Variable run(Variable x, const Variable& gates) {
    const LinearMode& mode = *in_.mode;
    return parallel_linear(x, weight_, in_.plan,
                           {.input = mode.input, .output = mode.output, .bias = &bias_},
                           mode.has_gates ? gates : Variable());
  }

  Parameter weight_, bias_;
  ParameterStore store_;
  Tape tape_;
  std::optional<GradientStep> step_;
  Variable x_, y_;  // places on the tape, without the data
};

}  // namespace

std::unique_ptr<ExpertVariant> make_linear_variant(VariantKind kind, const ExpertInputs& inputs) {
  if (kind == VariantKind::smoe) return std::make_unique<OpLinear>(inputs);
  if (kind == VariantKind::smoe_no_reuse) return std::make_unique<SeparateLinear>(inputs);
  return std::make_unique<GatheredLinear>(inputs);
}

}  // namespace smoe
