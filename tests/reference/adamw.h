// AdamW element by element in double, in the order of arXiv:1711.05101, Algorithm 2.
#pragma once
#include <cmath>
#include <vector>

namespace reference {

struct Adamw {
  double beta1, beta2, epsilon;
  std::vector<double> weights, m, v;

  Adamw(double beta1, double beta2, double epsilon, std::vector<double> initial)
      : beta1(beta1),
        beta2(beta2),
        epsilon(epsilon),
        weights(std::move(initial)),
        m(weights.size(), 0),
        v(weights.size(), 0) {}

  void step(int t, double lr, const std::vector<double>& gradient,
            const std::vector<double>& weight_decay) {
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const double g = gradient[i];
      m[i] = beta1 * m[i] + (1 - beta1) * g;
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      const double m_hat = m[i] / (1 - std::pow(beta1, t));
      const double v_hat = v[i] / (1 - std::pow(beta2, t));
      const double decayed = weights[i] - lr * weight_decay[i] * weights[i];
      weights[i] = decayed - lr * m_hat / (std::sqrt(v_hat) + epsilon);
    }
  }
};

}  // namespace reference
