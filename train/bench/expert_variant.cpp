#include "train/bench/expert_variant.h"

#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "kernels/activation.h"
#include "kernels/combine.h"
#include "kernels/gemm.h"
#include "kernels/moe_mlp.h"
#include "train/bench/attention_variant.h"
#include "train/bench/gathered_mlp.h"
#include "train/bench/linear_variant.h"
#include "train/profile/timing.h"

namespace smoe {
namespace {

using kernels::Activation;
using kernels::RoutingView;
using kernels::RowLayout;

constexpr Activation kActivation = Activation::swiglu;
constexpr std::int64_t kPaddedTile = 128;

// Allocates the gradient of a weight where it is not yet: one that stays, as in training, costs
// later passes nothing.
const Tensor& gradient_of(const Tensor& weight, Tensor& gradient) {
  if (!gradient.defined())
    gradient =
        Tensor::empty(weight.shape(), accumulation_dtype(weight.dtype()), Category::gradients);
  return gradient;
}

void grouped_gemm(const RoutingView& routing, const kernels::RoutedRows& x, const Tensor& weight,
                  bool transpose, const Tensor& y, bool overlaps_preceding = false) {
  run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
             {.routing = routing,
              .x = x,
              .weight = experts_of(weight),
              .transpose_weight = transpose,
              .y = matrix_of(y),
              .overlaps_preceding = overlaps_preceding});
}

void expert_gradient(const RoutingView& routing, const kernels::RoutedRows& dy,
                     const kernels::RoutedRows& x, const Tensor& dweight,
                     bool overlaps_preceding = false) {
  run_kernel(kernels::expert_gradient, kernels::expert_gradient_workspace_bytes,
             {.routing = routing,
              .dy = dy,
              .x = x,
              .dtype = dweight.dtype(),
              .dweight = dweight.data(),
              .overlaps_preceding = overlaps_preceding});
}

kernels::RoutedRows grouped(const Tensor& x) {
  return {matrix_of(x), RowLayout::grouped};
}
kernels::RoutedRows scattered(const Tensor& x) {
  return {matrix_of(x), RowLayout::scattered};
}

void gemm(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b, const Tensor& c) {
  run_gemm({.a = matrix_of(a),
            .transpose_a = transpose_a,
            .b = matrix_of(b),
            .transpose_b = transpose_b,
            .c = matrix_of(c)});
}

// ---- this program's experts --------------------------------------------------------------------

// The sequence of ops/moe_mlp.cpp. With `reuses`, backward computes a and the rows of dx in one
// buffer, dh over h and dx over dout; without, each in a buffer of its own.
class SmoeVariant : public ExpertVariant {
 public:
  SmoeVariant(const ExpertInputs& inputs, bool reuses) : ExpertVariant(inputs), reuses_(reuses) {}

  Tensor forward(bool trains) override {
    const ExpertShape& s = in_.shape;
    if (trains) h_ = Tensor::empty({s.num_rows(), 2 * s.d_expert}, s.dtype);
    Tensor a = Tensor::empty({s.num_rows(), s.d_expert}, s.dtype);
    run_kernel(kernels::expert_up, kernels::expert_up_workspace_bytes,
               {.routing = view_of(in_.plan),
                .x = matrix_of(in_.x),
                .w1 = experts_of(in_.w1),
                .kind = kActivation,
                .gates = in_.gates.data(),
                .h = trains ? matrix_of(h_) : Matrix{},
                .a = matrix_of(a)});
    const Tensor y = Tensor::empty({s.num_rows(), s.d_model}, s.dtype);
    grouped_gemm(view_of(in_.plan), grouped(a), in_.w2, false, y);
    a = Tensor();
    Tensor out = Tensor::empty_like(in_.x);
    kernels::combine(launch(),
                     {.routing = view_of(in_.plan), .y = grouped(y), .out = matrix_of(out)});
    return out;
  }

  void backward() override {
    const ExpertShape& s = in_.shape;
    const RoutingView routing = view_of(in_.plan);
    const std::int64_t rows = s.num_rows(), d = s.d_model, f = s.d_expert;
    Tensor shared = Tensor::empty({rows * std::max(d, f)}, s.dtype);
    const Tensor a = shared.view(0, {rows, f});
    const Tensor routed_dx =
        reuses_ ? shared.view(0, {rows, d}) : Tensor::empty({rows, d}, s.dtype);
    const Tensor dh = reuses_ ? h_ : h_.clone(Category::activations);
    const Tensor dgates = Tensor::empty_like(in_.gates);
    run_kernel(kernels::expert_down_backward, kernels::expert_down_backward_workspace_bytes,
               {.routing = routing,
                .dout = matrix_of(in_.dout),
                .w2 = experts_of(in_.w2),
                .kind = kActivation,
                .gates = in_.gates.data(),
                .h = matrix_of(dh),
                .a = matrix_of(a),
                .dgates = dgates.data()});
    expert_gradient(routing, scattered(in_.dout), grouped(a), gradient_of(in_.w2, dw2));
    expert_gradient(routing, grouped(dh), scattered(in_.x), gradient_of(in_.w1, dw1), true);
    grouped_gemm(routing, grouped(dh), in_.w1, true, routed_dx, true);
    dx = Tensor::empty_like(in_.x);
    kernels::combine(launch(), {.routing = routing, .y = grouped(routed_dx), .out = matrix_of(dx)});
    h_ = Tensor();
  }

 private:
  bool reuses_;
  Tensor h_;
};

// ---- gathered copies ---------------------------------------------------------------------------

// `block`: each expert's rows are padded to a multiple of it.
class GatherVariant : public ExpertVariant {
 public:
  GatherVariant(const ExpertInputs& inputs, std::int64_t block, bool loops)
      : ExpertVariant(inputs),
        plan_(padded_plan(inputs.plan, block)),
        mlp_(plan_, inputs.w1, inputs.w2, kActivation, loops),
        x_(extended(inputs.x, plan_)),
        dout_(extended(inputs.dout, plan_)),
        gates_(extended(inputs.gates, plan_)) {}

  Tensor forward(bool trains) override {
    return mlp_.forward(x_, gates_, trains).rows(0, in_.shape.num_tokens);
  }

  void backward() override {
    const Tensor dgates = Tensor::empty_like(gates_);
    dx = mlp_.backward(dout_, gates_, dgates, {.dweight = gradient_of(in_.w1, dw1), .beta = 0},
                       {.dweight = gradient_of(in_.w2, dw2), .beta = 0})
             .rows(0, in_.shape.num_tokens);
  }

 private:
  RoutingPlan plan_;
  GatheredMlp mlp_;
  Tensor x_, dout_, gates_;
};

// ---- dense -------------------------------------------------------------------------------------

class DenseVariant : public ExpertVariant {
 public:
  using ExpertVariant::ExpertVariant;

  Tensor forward(bool trains) override {
    const ExpertShape& s = in_.shape;
    const std::int64_t f = s.top_k * s.d_expert;
    Tensor h = Tensor::empty({s.num_tokens, 2 * f}, s.dtype);
    gemm(in_.x, false, in_.dense_w1, true, h);
    Tensor a = Tensor::empty({s.num_tokens, f}, s.dtype);
    kernels::activation_forward(launch(), {kActivation, matrix_of(h), matrix_of(a)});
    if (!trains) h = Tensor();
    Tensor out = Tensor::empty_like(in_.x);
    gemm(a, false, in_.dense_w2, true, out);
    if (trains) h_ = h, a_ = a;
    return out;
  }

  void backward() override {
    gemm(in_.dout, true, a_, false, gradient_of(in_.dense_w2, dw2));
    Tensor da = Tensor::empty_like(a_);
    gemm(in_.dout, false, in_.dense_w2, false, da);
    a_ = Tensor();
    Tensor dh = Tensor::empty_like(h_);
    kernels::activation_backward(launch(),
                                 {kActivation, matrix_of(h_), matrix_of(da), matrix_of(dh)});
    da = h_ = Tensor();
    gemm(dh, true, in_.x, false, gradient_of(in_.dense_w1, dw1));
    dx = Tensor::empty_like(in_.x);
    gemm(dh, false, in_.dense_w1, false, dx);
  }

 private:
  Tensor h_, a_;
};

}  // namespace

const char* name_of(VariantKind kind) {
  constexpr const char* kNames[] = {"smoe", "smoe, no reuse", "gather + pad",    "gather",
                                    "loop", "dense",          "group + scatter", "moe_mlp's GEMMs"};
  return kNames[static_cast<int>(kind)];
}

double padded_gemm_ratio(const ExpertInputs& inputs) {
  constexpr int kRuns = 5;
  const RoutingPlan plan = padded_plan(inputs.plan, kPaddedTile);
  const Tensor x = extended(inputs.x, plan), gates = extended(inputs.gates, plan);
  Tensor dw1_data, dw2_data;
  const WeightGradient dw1{.dweight = gradient_of(inputs.w1, dw1_data), .beta = 0};
  const WeightGradient dw2{.dweight = gradient_of(inputs.w2, dw2_data), .beta = 0};
  GatheredMlp grouped_form(plan, inputs.w1, inputs.w2, kActivation);
  GatheredMlp dense_form(plan, inputs.w1, inputs.w2, kActivation, true);
  std::vector<double> ratios;
  for (int run = 0; run < kRuns; ++run) {
    double ms[2] = {};
    for (int i = 0; i < 2; ++i) {
      GatheredMlp& form = i == 0 ? grouped_form : dense_form;
      form.forward(x, gates, true);  // values of the usual size for each run
      ms[i] = time_ms([&] { form.run_gemms(dw1, dw2); });
    }
    ratios.push_back(ms[0] / ms[1]);
  }
  return median(ratios);
}

std::unique_ptr<ExpertVariant> make_variant(VariantKind kind, const ExpertInputs& inputs) {
  if (inputs.mode) return make_linear_variant(kind, inputs);
  if (inputs.attention) return make_attention_variant(kind, inputs);
  switch (kind) {
    case VariantKind::smoe:
      return std::make_unique<SmoeVariant>(inputs, true);
    case VariantKind::smoe_no_reuse:
      return std::make_unique<SmoeVariant>(inputs, false);
    case VariantKind::padded:
      return std::make_unique<GatherVariant>(inputs, kPaddedTile, false);
    case VariantKind::gathered:
      return std::make_unique<GatherVariant>(inputs, 1, false);
    case VariantKind::loop:
      return std::make_unique<GatherVariant>(inputs, 1, true);
    case VariantKind::dense:
      return std::make_unique<DenseVariant>(inputs);
    case VariantKind::copied:
    case VariantKind::moe_mlp_gemms:
      break;  // not of a layer
  }
  return nullptr;
}

}  // namespace smoe
