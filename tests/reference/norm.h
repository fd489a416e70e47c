// RMSNorm and its gradient in double. The gradient is the textbook form: the Jacobian of
// x / rms(x), summed element by element.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

namespace reference {

/// y [T, D] = x / sqrt(mean(x^2) + epsilon) * weight.
inline std::vector<double> rms_norm(std::int64_t num_tokens, std::int64_t width,
                                    const std::vector<double>& x, const std::vector<double>& weight,
                                    double epsilon) {
  std::vector<double> y(x.size());
  for (std::int64_t t = 0; t < num_tokens; ++t) {
    double sum = 0;
    for (std::int64_t j = 0; j < width; ++j) sum += x[t * width + j] * x[t * width + j];
    const double rms = std::sqrt(sum / double(width) + epsilon);
    for (std::int64_t j = 0; j < width; ++j) y[t * width + j] = x[t * width + j] / rms * weight[j];
  }
  return y;
}

struct RmsNormGradients {
  std::vector<double> dx;       // [T, D]
  std::vector<double> dweight;  // [D]
};

/// With y_i = w_i x_i / rms: dy_i/dx_j = w_i (delta_ij / rms - x_i x_j / (D rms^3)).
inline RmsNormGradients rms_norm_backward(std::int64_t num_tokens, std::int64_t width,
                                          const std::vector<double>& x,
                                          const std::vector<double>& weight, double epsilon,
                                          const std::vector<double>& dy) {
  RmsNormGradients gradients{std::vector<double>(x.size(), 0), std::vector<double>(width, 0)};
  for (std::int64_t t = 0; t < num_tokens; ++t) {
    const double* row = x.data() + t * width;
    double sum = 0;
    for (std::int64_t j = 0; j < width; ++j) sum += row[j] * row[j];
    const double rms = std::sqrt(sum / double(width) + epsilon);
    for (std::int64_t i = 0; i < width; ++i) {
      const double dy_i = dy[t * width + i];
      gradients.dweight[i] += dy_i * row[i] / rms;
      for (std::int64_t j = 0; j < width; ++j) {
        const double jacobian = weight[i] * ((i == j ? 1 / rms : 0) -
                                             row[i] * row[j] / (double(width) * rms * rms * rms));
        gradients.dx[t * width + j] += dy_i * jacobian;
      }
    }
  }
  return gradients;
}

}  // namespace reference
