#include "layers/moe.h"

#include "autograd/recompute.h"
#include "layers/init.h"

namespace smoe {
namespace {

std::string expert_name(const std::string& name, std::int64_t expert, const char* matrix) {
  return name + ".experts." + std::to_string(expert) + "." + matrix + ".weight";
}

// Mixtral's names: w1 is the GLU matrix, w3 the up matrix. A plain activation has only w1.
Parameter::Options up_parts(const std::string& name, const ModelConfig& c) {
  Parameter::Options options;
  for (std::int64_t e = 0; e < c.num_experts; ++e) {
    options.parts.push_back({expert_name(name, e, "w1"), {c.d_expert, c.d_model}});
    if (is_gated(c.activation))
      options.parts.push_back({expert_name(name, e, "w3"), {c.d_expert, c.d_model}});
  }
  return options;
}

Parameter::Options down_parts(const std::string& name, const ModelConfig& c) {
  Parameter::Options options;
  for (std::int64_t e = 0; e < c.num_experts; ++e)
    options.parts.push_back({expert_name(name, e, "w2"), {c.d_model, c.d_expert}});
  return options;
}

Shape up_shape(const ModelConfig& c) {
  return is_gated(c.activation) ? Shape{c.num_experts, 2, c.d_expert, c.d_model}
                                : Shape{c.num_experts, c.d_expert, c.d_model};
}

std::int64_t shared_width(const ModelConfig& c) {
  return c.num_shared_experts * c.d_expert;
}

Parameter::Options shared_up_parts(const std::string& name, const ModelConfig& c) {
  const Shape half{shared_width(c), c.d_model};
  if (!is_gated(c.activation)) return {.parts = {{name + ".up_proj.weight", half}}};
  return {.parts = {{name + ".gate_proj.weight", half}, {name + ".up_proj.weight", half}}};
}

}  // namespace

SharedExperts::SharedExperts(const std::string& name, const ModelConfig& c)
    : activation_(c.activation),
      up_(name + ".gate_up_proj.weight", c.d_model,
          (is_gated(c.activation) ? 2 : 1) * shared_width(c), projection_std(c.d_model),
          shared_up_parts(name, c)),
      down_(name + ".down_proj.weight", shared_width(c), c.d_model,
            residual_projection_std(shared_width(c), c.num_layers)) {
  own(up_);
  own(down_);
}

Variable SharedExperts::forward(const Variable& x, Recompute mode) {
  const Segment mlp = [this](std::span<const Variable> inputs) {
    return std::vector{down_.forward(activation(up_.forward(inputs[0]), activation_))};
  };
  if (mode != Recompute::experts) return mlp({&x, 1})[0];
  return recompute("shared_experts", {x}, parameters(), mlp)[0];
}

MoE::MoE(const std::string& name, const ModelConfig& c, bool output_bias)
    : activation_(c.activation),
      router_(name + ".gate", c),
      w1_(name + ".experts.w1_w3.weight", up_shape(c), Init::normal(projection_std(c.d_model)),
          up_parts(name, c)),
      w2_(name + ".experts.w2.weight", {c.num_experts, c.d_model, c.d_expert},
          Init::normal(residual_projection_std(c.d_expert, c.num_layers)), down_parts(name, c)) {
  own(router_);
  own(w1_);
  own(w2_);
  if (c.num_shared_experts > 0) {
    shared_ = std::make_unique<SharedExperts>(name + ".shared_experts", c);
    own(*shared_);
  }
  if (output_bias) {
    output_bias_ =
        std::make_unique<Parameter>(name + ".output_bias", Shape{c.d_model}, Init::constant(0),
                                    Parameter::Options{.decays = false});
    own(*output_bias_);
  }
}

LayerModule::Output MoE::forward(const Variable& x, const LayerContext& context) {
  const Routing routing = router_.forward(x, context);
  Variable y = moe_mlp(x, routing.gates, routing.plan, w1_, w2_, activation_,
                       context.recompute == Recompute::experts);  // [T, D]
  if (shared_) y = add(y, shared_->forward(x, context.recompute));
  if (output_bias_) y = add_bias(std::move(y), *output_bias_);
  return {.y = y, .routings = {routing}};
}

std::vector<PartParameters> MoE::parts() const {
  std::vector<PartParameters> parts = {
      {.part = ModelPart::router, .parameters = router_.parameters()},
      {.part = ModelPart::experts,
       .parameters = {parameters()[1], parameters()[2]},
       .top_k = router_.top_k(),
       .num_experts = router_.num_experts()}};
  if (shared_)
    parts.push_back({.part = ModelPart::shared_experts, .parameters = shared_->parameters()});
  if (output_bias_)
    parts.push_back({.part = ModelPart::experts, .parameters = {output_bias_.get()}});
  return parts;
}

// The first GEMM of the routed experts, and all of the shared ones.
double MoE::recomputed_flops() const {
  std::int64_t active = w1_.numel() / router_.num_experts() * router_.top_k();
  if (shared_)
    for (const Parameter* parameter : shared_->parameters()) active += parameter->numel();
  return 2.0 * static_cast<double>(active);
}

}  // namespace smoe
