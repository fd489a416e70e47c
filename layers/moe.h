// MoE: router, experts and optional shared experts, in place of a transformer's MLP.
#pragma once
#include <memory>

#include "layers/router.h"

namespace smoe {

/// A gated or plain MLP that every token passes: the shared experts, fused into one.
class SharedExperts : public Module {
 public:
  SharedExperts(const std::string& name, const ModelConfig& config);
  /// [T, D] -> [T, D]. With `recomputes` x alone is kept for backward.
  Variable forward(const Variable& x, bool recomputes);

 private:
  Activation activation_;
  Linear up_;    // [2 Fs, D], gate rows first; [Fs, D] for plain activations
  Linear down_;  // [D, Fs]
};

class MoE : public Module {
 public:
  struct Output {
    Variable y;  ///< [T, D]
    Routing routing;
  };

  /// Experts are named `name`.experts.{e}.w1 (gate), .w3 (up) and .w2 (down), as in Mixtral.
  MoE(const std::string& name, const ModelConfig& config);

  /// x [T, D]. An `earlier` routing of the same x is followed.
  Output forward(const Variable& x, const ForwardContext& context,
                 const Routing* earlier = nullptr);

  Router& router() { return router_; }

 private:
  Activation activation_;
  Router router_;
  Parameter w1_;  // [E, 2, F, D], gate rows first; [E, F, D] for plain activations
  Parameter w2_;  // [E, D, F]
  std::unique_ptr<SharedExperts> shared_;
};

}  // namespace smoe
