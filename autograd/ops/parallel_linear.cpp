// ParallelLinear (ScatterMoE, arXiv:2403.08245): y[p] = W[e(p)] x[p] + b[e(p)], with rows
// optionally combined by gates. Backward is Algorithm 2 without its copies: where the paper groups
// x and dy before the GEMMs, the grouped GEMMs here gather their rows. Only the weight gradient of
// two scattered operands may copy one of them, to the memory that dx is written to afterwards.
#include "autograd/ops.h"
#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "kernels/combine.h"

namespace smoe {
namespace {

struct Projection {
  RoutingPlan plan;
  RowLayout x_layout;
  RowLayout y_layout;
  Parameter* weight;  // [E, D_out, D_in]
  Parameter* bias;    // [E, D_out], or null

  bool trains_bias() const { return bias && bias->trains(); }
  bool trains() const { return weight->trains() || trains_bias(); }
};

void check_projection(const Variable& x, const Projection& projection, const Variable& gates) {
  const RoutingPlan& plan = projection.plan;
  const Parameter& weight = *projection.weight;
  SMOE_CHECK(weight.shape().rank() == 3 && weight.shape()[0] == plan.num_experts,
             "parallel_linear: weight must be [E=", plan.num_experts, ", D_out, D_in]; got ",
             weight.name(), " ", weight.shape());
  const bool serves_all_slots =
      projection.x_layout == RowLayout::scattered && x.dim(0) == plan.num_tokens;
  SMOE_CHECK(x.shape().rank() == 2 && x.dim(1) == weight.shape()[2] &&
                 (x.dim(0) == plan.num_rows() || serves_all_slots),
             "parallel_linear: x must be [N=", plan.num_rows(), ", D_in=", weight.shape()[2],
             "], or scattered [T=", plan.num_tokens, ", D_in]; got ", x.shape());
  SMOE_CHECK(weight.value().dtype() == x.dtype(), "parallel_linear: x and weight must have one ",
             "dtype; got ", name_of(x.dtype()), " and ", name_of(weight.value().dtype()));
  const Shape bias_shape{weight.shape()[0], weight.shape()[1]};
  SMOE_CHECK(!projection.bias || projection.bias->shape() == bias_shape,
             "parallel_linear: bias must be ", bias_shape, "; got ", projection.bias->shape());
  if (!gates.defined()) return;
  const Shape gates_shape{plan.num_tokens, plan.top_k};
  const DType gates_dtype = accumulation_dtype(x.dtype());
  SMOE_CHECK(gates.shape() == gates_shape && gates.dtype() == gates_dtype,
             "parallel_linear: gates must be ", gates_shape, " in ", name_of(gates_dtype), "; got ",
             gates.shape(), " in ", name_of(gates.dtype()));
}

Tensor forward(const Projection& projection, const Tensor& x) {
  const Tensor& weight = projection.weight->value();
  Tensor y = Tensor::empty({projection.plan.num_rows(), weight.dim(1)}, x.dtype());
  run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
             {.routing = view_of(projection.plan),
              .x = {matrix_of(x), projection.x_layout},
              .weight = experts_of(weight),
              .bias = projection.bias ? matrix_of(projection.bias->value()) : Matrix{},
              .y = matrix_of(y),
              .y_layout = projection.y_layout});
  return y;
}

void accumulate_gradients(const Projection& projection, const Tensor& x, const Tensor& dy,
                          const WorkspaceSource& workspace) {
  if (!projection.trains()) return;
  Parameter& weight = *projection.weight;
  Parameter* const bias = projection.trains_bias() ? projection.bias : nullptr;
  run_kernel(kernels::expert_gradient, kernels::expert_gradient_workspace_bytes,
             {.routing = view_of(projection.plan),
              .dy = {matrix_of(dy), projection.y_layout},
              .x = {matrix_of(x), projection.x_layout},
              .dtype = weight.gradient_dtype(),
              .dweight = weight.trains() ? weight.gradient().data() : nullptr,
              .beta = weight.trains() ? weight.claim_gradient() : 0,
              .dbias = bias ? bias->gradient().data() : nullptr,
              .bias_beta = bias ? bias->claim_gradient() : 0},
             workspace);
}

// dy W, in rows of the given layout.
void multiply_transposed(const Projection& projection, const Tensor& dy, const Tensor& dx,
                         RowLayout layout) {
  run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
             {.routing = view_of(projection.plan),
              .x = {matrix_of(dy), projection.y_layout},
              .weight = experts_of(projection.weight->value()),
              .transpose_weight = true,
              .y = matrix_of(dx),
              .y_layout = layout});
}

// Memory of dx and of its N rows, which are dx itself unless that is their sum per token.
class InputGradient {
 public:
  InputGradient(const RoutingPlan& plan, const SavedTensor& saved, const Tensor& x)
      : plan_(plan), saved_(saved), x_(x) {}

  void allocate() {
    if (dx.defined()) return;
    dx = saved_.gradient_memory(x_);
    rows = is_per_token() ? Tensor::empty({plan_.num_rows(), dx.dim(1)}, dx.dtype()) : dx;
  }
  bool is_per_token() const { return dx.dim(0) != plan_.num_rows(); }

  // For a kernel that runs before dx is computed: in the rows, unless they are too small or x.
  Tensor workspace(std::int64_t bytes) {
    const bool overwrites_x = x_.dim(0) == plan_.num_rows() && x_.is_sole_reference();
    if (overwrites_x || bytes > plan_.num_rows() * x_.dim(1) * size_of(x_.dtype()))
      return new_workspace(bytes);
    allocate();
    return rows;
  }

  Tensor dx;
  Tensor rows;  // [N, D_in]

 private:
  const RoutingPlan& plan_;
  const SavedTensor& saved_;
  const Tensor& x_;
};

// Weight and bias first: dx may overwrite x, which they are the last to read.
void backward(const Projection& projection, SavedTensor& saved, const Tensor& dy,
              InputGradients& out) {
  const Tensor x = saved.take();
  if (!out.wants(0)) return accumulate_gradients(projection, x, dy, new_workspace);
  InputGradient gradient(projection.plan, saved, x);
  accumulate_gradients(projection, x, dy,
                       [&](std::int64_t bytes) { return gradient.workspace(bytes); });
  gradient.allocate();
  const bool is_per_token = gradient.is_per_token();
  multiply_transposed(projection, dy, gradient.rows,
                      is_per_token ? RowLayout::grouped : projection.x_layout);
  if (is_per_token)
    kernels::combine(launch(), {.routing = view_of(projection.plan),
                                .y = {matrix_of(gradient.rows), RowLayout::grouped},
                                .out = matrix_of(gradient.dx)});
  out.give(0, gradient.dx);
}

// Rows [N, D], scattered, as those of N tokens of one slot each.
kernels::RoutingView one_slot_each(const RoutingPlan& plan) {
  kernels::RoutingView view = view_of(plan);
  view.num_tokens = plan.num_rows();
  view.top_k = 1;
  return view;
}

// Scattered x [N, D], each row times its gate, in grouped order: `grouped`.
void scale_rows(const RoutingPlan& plan, const Tensor& x, const Tensor& gates,
                const Tensor& grouped) {
  kernels::group(launch(), {.routing = view_of(plan),
                            .x = matrix_of(x),
                            .gates = gates.data(),
                            .grouped = matrix_of(grouped)});
}

// The sum over a token's grouped rows y, times their gates unless those are undefined.
Tensor combined(const RoutingPlan& plan, const Tensor& y, const Tensor& gates) {
  Tensor sum = Tensor::empty({plan.num_tokens, y.dim(1)}, y.dtype());  // [T, D_out]
  kernels::combine(launch(), {.routing = view_of(plan),
                              .y = {matrix_of(y), RowLayout::grouped},
                              .gates = data_or_null(gates),
                              .out = matrix_of(sum)});
  return sum;
}

// Whether the gates scale the rows of x instead of those of y: these are no wider, and y is then
// not saved.
bool scales_inputs(const Variable& x, const Projection& projection) {
  return projection.x_layout == RowLayout::scattered && !projection.bias &&
         x.dim(0) == projection.plan.num_rows() && x.dim(1) <= projection.weight->shape()[1];
}

// sum_j W (g_j x_j). Scaling writes the rows anyway, so it writes them in grouped order, for which
// GEMMs are fastest. Backward reads dsum [T, D_out] by token, as the gradient of each row: with
// d_j = W^T dsum, dx_j = g_j d_j and dg_j = <x_j, d_j>.
Variable scale_and_multiply(const Variable& x, const Variable& gates, Projection projection) {
  const RoutingPlan& plan = projection.plan;
  projection.x_layout = RowLayout::grouped;
  Tensor scaled = Tensor::empty_like(x.data());  // [N, D_in], grouped
  scale_rows(plan, x.data(), gates.data(), scaled);
  const Tensor y = forward(projection, scaled);  // [N, D_out], grouped
  scaled = Tensor();
  Tensor sum = combined(plan, y, {});
  projection.y_layout = RowLayout::scattered;  // of dsum
  return record("parallel_linear", std::move(sum), {&x, &gates}, {projection.weight},
                [saved = SavedTensor(x), gates = gates.data(), projection](
                    const Tensor& dsum, InputGradients& out) mutable {
                  const RoutingPlan& plan = projection.plan;
                  const Tensor x = saved.take();
                  const Tensor rows = Tensor::empty_like(x);  // grouped: scaled x, then d
                  if (projection.trains()) {
                    scale_rows(plan, x, gates, rows);
                    accumulate_gradients(projection, rows, dsum, new_workspace);
                  }
                  if (!out.wants(0) && !out.wants(1)) return;
                  multiply_transposed(projection, dsum, rows, RowLayout::grouped);
                  if (out.wants(1)) {
                    Tensor dgates = Tensor::empty_like(gates);
                    kernels::combine_gates_backward(launch(),
                                                    {.routing = one_slot_each(plan),
                                                     .y = {matrix_of(rows), RowLayout::grouped},
                                                     .dout = matrix_of(x),
                                                     .dgates = dgates.data()});
                    out.give(1, std::move(dgates));
                  }
                  if (!out.wants(0)) return;
                  const Tensor dx = saved.gradient_memory(x);
                  kernels::combine(launch(), {.routing = one_slot_each(plan),
                                              .y = {matrix_of(rows), RowLayout::grouped},
                                              .gates = gates.data(),
                                              .out = matrix_of(dx)});
                  out.give(0, dx);
                });
}

Variable multiply_and_combine(const Variable& x, const Variable& gates,
                              const Projection& projection) {
  const RoutingPlan& plan = projection.plan;
  Tensor y = forward(projection, x.data());  // [N, D_out], grouped
  Tensor sum = combined(plan, y, gates.data());
  return record("parallel_linear", std::move(sum), {&x, &gates},
                {projection.weight, projection.bias},
                [saved = SavedTensor(x, projection.trains()), y = std::move(y),
                 gates = gates.data(), projection](Tensor dsum, InputGradients& out) mutable {
                  const Tensor& dy = y;  // overwrites y, to which only this node refers
                  Tensor dgates = out.wants(1) ? Tensor::empty_like(gates) : Tensor();
                  Parameter* const bias = projection.trains_bias() ? projection.bias : nullptr;
                  run_kernel(kernels::combine_backward, kernels::combine_backward_workspace_bytes,
                             {.routing = view_of(projection.plan),
                              .y = matrix_of(y),
                              .dout = matrix_of(dsum),
                              .gates = gates.data(),
                              .dgates = data_or_null(dgates),
                              .dy = matrix_of(dy),
                              .dbias_dtype = projection.weight->gradient_dtype(),
                              .dbias = bias ? bias->gradient().data() : nullptr,
                              .bias_beta = bias ? bias->claim_gradient() : 0});
                  dsum = Tensor();
                  if (dgates.defined()) out.give(1, std::move(dgates));
                  Projection without_bias = projection;
                  without_bias.bias = nullptr;  // its gradient is done
                  backward(without_bias, saved, dy, out);
                });
}

}  // namespace

Variable parallel_linear(const Variable& x, Parameter& weight, const RoutingPlan& plan,
                         const ParallelLinearOptions& options, const Variable& gates) {
  const Projection projection{plan, options.input,
                              gates.defined() ? RowLayout::grouped : options.output, &weight,
                              options.bias};
  check_projection(x, projection, gates);
  if (gates.defined())
    return scales_inputs(x, projection) ? scale_and_multiply(x, gates, projection)
                                        : multiply_and_combine(x, gates, projection);
  return record(
      "parallel_linear", forward(projection, x.data()), {&x}, {&weight, options.bias},
      [saved = SavedTensor(x, projection.trains()), projection](
          Tensor dy, InputGradients& out) mutable { backward(projection, saved, dy, out); });
}

}  // namespace smoe
