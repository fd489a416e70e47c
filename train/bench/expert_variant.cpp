#include "train/bench/expert_variant.h"

#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "kernels/activation.h"
#include "kernels/combine.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/moe_mlp.h"
#include "train/bench/attention_variant.h"
#include "train/bench/linear_variant.h"

namespace smoe {
namespace {

using kernels::Activation;
using kernels::RoutingView;
using kernels::RowLayout;

constexpr Activation kActivation = Activation::swiglu;

Tensor gradient_of(const Tensor& weight) {
  return Tensor::empty(weight.shape(), accumulation_dtype(weight.dtype()), Category::gradients);
}

void grouped_gemm(const RoutingView& routing, const kernels::RoutedRows& x, const Tensor& weight,
                  bool transpose, const Tensor& y) {
  run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
             {.routing = routing,
              .x = x,
              .weight = experts_of(weight),
              .transpose_weight = transpose,
              .y = matrix_of(y)});
}

void expert_gradient(const RoutingView& routing, const kernels::RoutedRows& dy,
                     const kernels::RoutedRows& x, const Tensor& dweight) {
  run_kernel(kernels::expert_gradient, kernels::expert_gradient_workspace_bytes,
             {.routing = routing, .dy = dy, .x = x, .dweight = dweight.data()});
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
    dw2 = gradient_of(in_.w2);
    expert_gradient(routing, scattered(in_.dout), grouped(a), dw2);
    grouped_gemm(routing, grouped(dh), in_.w1, true, routed_dx);
    dx = Tensor::empty_like(in_.x);
    kernels::combine(launch(), {.routing = routing, .y = grouped(routed_dx), .out = matrix_of(dx)});
    dw1 = gradient_of(in_.w1);
    expert_gradient(routing, grouped(dh), scattered(in_.x), dw1);
    h_ = Tensor();
  }

 private:
  bool reuses_;
  Tensor h_;
};

// ---- gathered copies ---------------------------------------------------------------------------

// Rows are copied to order them by expert, and each expert's rows are padded to a multiple of
// `block`. Pad rows come from a row of zeros behind the tokens, with gate 0.
class GatherVariant : public ExpertVariant {
 public:
  GatherVariant(const ExpertInputs& inputs, std::int64_t block, bool loops)
      : ExpertVariant(inputs), loops_(loops) {
    const ExpertShape& s = in_.shape;
    make_indices(block);
    x_ = extended(in_.x);
    dout_ = extended(in_.dout);
    std::vector<float> gates(routing_rows_, 0.0F);
    const auto own = in_.gates.to_vector<float>();
    std::copy(own.begin(), own.end(), gates.begin());
    gates_ = Tensor::from(gates, {routing_rows_}, Category::workspace);
    SMOE_CHECK(accumulation_dtype(s.dtype) == DType::f32, "bench: dtype must be f32 or bf16");
  }

  Tensor forward(bool trains) override {
    const ExpertShape& s = in_.shape;
    const std::int64_t p = routing_rows_;
    if (loops_) read_counts();
    Tensor rows = Tensor::empty({p, s.d_model}, s.dtype);
    kernels::group(launch(), {.routing = view(), .x = matrix_of(x_), .grouped = matrix_of(rows)});
    Tensor h = Tensor::empty({p, 2 * s.d_expert}, s.dtype);
    multiply(rows, in_.w1, false, h);
    Tensor a = Tensor::empty({p, s.d_expert}, s.dtype);
    kernels::activation_forward(launch(), {kActivation, matrix_of(h), matrix_of(a)});
    if (!trains) h = rows = Tensor();
    Tensor y = Tensor::empty({p, s.d_model}, s.dtype);
    multiply(a, in_.w2, false, y);
    const Tensor out = Tensor::empty({p / s.top_k, s.d_model}, s.dtype);
    kernels::combine(
        launch(),
        {.routing = view(), .y = grouped(y), .gates = gates_.data(), .out = matrix_of(out)});
    if (trains) rows_ = rows, h_ = h, a_ = a, y_ = y;
    return out.rows(0, s.num_tokens);
  }

  void backward() override {
    const ExpertShape& s = in_.shape;
    const std::int64_t p = routing_rows_;
    const Tensor dgates = Tensor::empty({p}, DType::f32);
    kernels::combine_gates_backward(launch(), {.routing = view(),
                                               .y = grouped(y_),
                                               .dout = matrix_of(dout_rows()),
                                               .dgates = dgates.data()});
    y_ = Tensor();
    Tensor dy = Tensor::empty({p, s.d_model}, s.dtype);
    kernels::group(launch(), {.routing = view(),
                              .x = matrix_of(dout_),
                              .gates = gates_.data(),
                              .grouped = matrix_of(dy)});
    dw2 = gradient_of(in_.w2);
    multiply_gradient(dy, a_, dw2);
    Tensor da = Tensor::empty({p, s.d_expert}, s.dtype);
    multiply(dy, in_.w2, true, da);
    dy = a_ = Tensor();
    Tensor dh = Tensor::empty({p, 2 * s.d_expert}, s.dtype);
    kernels::activation_backward(launch(),
                                 {kActivation, matrix_of(h_), matrix_of(da), matrix_of(dh)});
    da = h_ = Tensor();
    dw1 = gradient_of(in_.w1);
    multiply_gradient(dh, rows_, dw1);
    rows_ = Tensor();
    const Tensor routed_dx = Tensor::empty({p, s.d_model}, s.dtype);
    multiply(dh, in_.w1, true, routed_dx);
    dh = Tensor();
    const Tensor whole = Tensor::empty({p / s.top_k, s.d_model}, s.dtype);
    kernels::combine(launch(),
                     {.routing = view(), .y = grouped(routed_dx), .out = matrix_of(whole)});
    dx = whole.rows(0, s.num_tokens);
  }

 private:
  RoutingView view() const {
    return {routing_rows_ / in_.shape.top_k,
            in_.shape.top_k,
            in_.shape.num_experts,
            ids_.data_as<std::int32_t>(),
            grouped_rows_.data_as<std::int32_t>(),
            offsets_.data_as<std::int32_t>()};
  }

  void make_indices(std::int64_t block) {
    const ExpertShape& s = in_.shape;
    const auto ids = in_.plan.sorted_scattered_ids.to_vector<std::int32_t>();
    const auto offsets = in_.plan.expert_offsets.to_vector<std::int32_t>();
    const auto pad_id = static_cast<std::int32_t>(s.num_rows());
    std::vector<std::int32_t> padded_ids, padded_offsets{0};
    std::vector<std::int32_t> rows(s.num_rows());
    for (std::int64_t e = 0; e < s.num_experts; ++e) {
      for (std::int32_t row = offsets[e]; row < offsets[e + 1]; ++row) {
        rows[ids[row]] = static_cast<std::int32_t>(padded_ids.size());
        padded_ids.push_back(ids[row]);
      }
      const bool is_last = e + 1 == s.num_experts;
      while (padded_ids.size() % block != 0 || (is_last && padded_ids.size() % s.top_k != 0))
        padded_ids.push_back(pad_id);
      padded_offsets.push_back(static_cast<std::int32_t>(padded_ids.size()));
    }
    routing_rows_ = static_cast<std::int64_t>(padded_ids.size());
    rows.resize(routing_rows_, static_cast<std::int32_t>(routing_rows_ - 1));
    ids_ = Tensor::from(padded_ids, {routing_rows_}, Category::workspace);
    grouped_rows_ = Tensor::from(rows, {routing_rows_}, Category::workspace);
    offsets_ = Tensor::from(padded_offsets, {s.num_experts + 1}, Category::workspace);
  }

  // `x` with zeros behind it, for the pad rows.
  Tensor extended(const Tensor& x) const {
    const ExpertShape& s = in_.shape;
    const std::int64_t rows = std::max(routing_rows_ / s.top_k, s.num_tokens + 1);
    const Tensor whole = Tensor::zeros({rows, s.d_model}, s.dtype, Category::workspace);
    whole.rows(0, s.num_tokens).copy_from(x);
    return whole;
  }
  Tensor dout_rows() const { return dout_.rows(0, routing_rows_ / in_.shape.top_k); }

  void read_counts() { host_offsets_ = offsets_.to_vector<std::int32_t>(); }

  // y = x W^T per expert, or x W.
  void multiply(const Tensor& x, const Tensor& weight, bool transpose, const Tensor& y) const {
    if (!loops_) return grouped_gemm(view(), grouped(x), weight, transpose, y);
    for (std::int64_t e = 0; e < in_.shape.num_experts; ++e)
      if (host_offsets_[e] < host_offsets_[e + 1])
        gemm(rows_of(x, e), false, weight_of(weight, e), !transpose, rows_of(y, e));
  }
  void multiply_gradient(const Tensor& dy, const Tensor& x, const Tensor& dweight) const {
    if (!loops_) return expert_gradient(view(), grouped(dy), grouped(x), dweight);
    for (std::int64_t e = 0; e < in_.shape.num_experts; ++e)
      if (host_offsets_[e] < host_offsets_[e + 1])
        gemm(rows_of(dy, e), true, rows_of(x, e), false, weight_of(dweight, e));
      else
        weight_of(dweight, e).fill_zero();
  }
  Tensor rows_of(const Tensor& x, std::int64_t e) const {
    return x.rows(host_offsets_[e], host_offsets_[e + 1]);
  }
  static Tensor weight_of(const Tensor& weight, std::int64_t e) {
    return weight.rows(e, e + 1).reshape({weight.dim(1), weight.dim(2)});
  }

  bool loops_;
  std::int64_t routing_rows_ = 0;  // with padding
  Tensor ids_, grouped_rows_, offsets_, x_, dout_, gates_;
  std::vector<std::int32_t> host_offsets_;
  Tensor rows_, h_, a_, y_;  // kept for backward
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
    dw2 = gradient_of(in_.dense_w2);
    gemm(in_.dout, true, a_, false, dw2);
    Tensor da = Tensor::empty_like(a_);
    gemm(in_.dout, false, in_.dense_w2, false, da);
    a_ = Tensor();
    Tensor dh = Tensor::empty_like(h_);
    kernels::activation_backward(launch(),
                                 {kActivation, matrix_of(h_), matrix_of(da), matrix_of(dh)});
    da = h_ = Tensor();
    dw1 = gradient_of(in_.dense_w1);
    gemm(dh, true, in_.x, false, dw1);
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

std::unique_ptr<ExpertVariant> make_variant(VariantKind kind, const ExpertInputs& inputs) {
  if (inputs.mode) return make_linear_variant(kind, inputs);
  if (inputs.attention) return make_attention_variant(kind, inputs);
  constexpr std::int64_t kPaddedTile = 128;
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
