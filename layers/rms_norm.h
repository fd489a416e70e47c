// RMSNorm (arXiv:1910.07467), by itself or fused with the residual add before it. Its weight is
// kept in full precision and not decayed.
#pragma once
#include "autograd/ops.h"
#include "layers/module.h"

namespace smoe {

class RMSNorm : public Module {
 public:
  RMSNorm(const std::string& name, std::int64_t width, double epsilon)
      : weight_(name, {width}, Init::constant(1), {.decays = false, .full_precision = true}),
        epsilon_(epsilon) {
    own(weight_);
  }

  /// [T, width] -> [T, width].
  Variable forward(const Variable& x) { return rms_norm(x, weight_, epsilon_); }

  /// The new residual stream residual + delta, and its norm; delta may be undefined.
  ResidualNorm forward(const Variable& residual, const Variable& delta) {
    return add_rms_norm(residual, delta, weight_, epsilon_);
  }

 private:
  Parameter weight_;
  double epsilon_;
};

}  // namespace smoe
