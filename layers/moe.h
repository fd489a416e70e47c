// MoE: router, experts and optional shared experts, which replace a transformer's MLP.
#pragma once
#include <memory>

#include "layers/layer_module.h"

namespace smoe {

/// The shared experts, fused into one gated or plain MLP that is applied to every token.
class SharedExperts : public Module {
 public:
  SharedExperts(const std::string& name, const ModelConfig& config);
  /// [T, D] -> [T, D]. With Recompute::experts only x is kept for backward.
  Variable forward(const Variable& x, Recompute mode);

 private:
  Activation activation_;
  Linear up_;    // [2 Fs, D], GLU rows first; [Fs, D] for plain activations
  Linear down_;  // [D, Fs]
};

class MoE : public LayerModule {
 public:
  /// Experts are named `name`.experts.{e}.w1 (GLU), .w3 (up) and .w2 (down), as in Mixtral. With
  /// `output_bias` the sum over experts gets a bias `name`.output_bias [D].
  MoE(const std::string& name, const ModelConfig& config, bool output_bias = false);

  /// x [T, D].
  Output forward(const Variable& x, const LayerContext& context) override;
  std::vector<Router*> routers() override { return {&router_}; }
  std::vector<PartParameters> parts() const override;
  double recomputed_flops() const override;

  Router& router() { return router_; }

 private:
  Activation activation_;
  Router router_;
  Parameter w1_;  // [E, 2, F, D], GLU rows first; [E, F, D] for plain activations
  Parameter w2_;  // [E, D, F]
  std::unique_ptr<SharedExperts> shared_;
  std::unique_ptr<Parameter> output_bias_;
};

}  // namespace smoe
