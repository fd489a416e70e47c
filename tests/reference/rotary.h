// Rotary position embedding in double, as complex multiplication.
#pragma once
#include <cmath>
#include <complex>
#include <cstdint>
#include <vector>

namespace reference {

/// Rotates the first `num_rotated` heads of each row [num_heads * width] of num_sequences * seq_len
/// rows: element i and element i + width/2 of a head are the real and the imaginary part of a
/// number that is multiplied by exp(direction * sqrt(-1) * position * theta^(-2 i / width)).
inline std::vector<double> rotary(std::int64_t num_sequences, std::int64_t seq_len,
                                  std::int64_t num_heads, std::int64_t num_rotated,
                                  std::int64_t width, double theta, double direction,
                                  std::vector<double> x) {
  for (std::int64_t row = 0; row < num_sequences * seq_len; ++row)
    for (std::int64_t head = 0; head < num_rotated; ++head)
      for (std::int64_t i = 0; i < width / 2; ++i) {
        double& real = x[(row * num_heads + head) * width + i];
        double& imaginary = x[(row * num_heads + head) * width + i + width / 2];
        const double angle =
            double(row % seq_len) / std::pow(theta, 2.0 * double(i) / double(width));
        const std::complex<double> rotated =
            std::complex<double>(real, imaginary) * std::polar(1.0, direction * angle);
        real = rotated.real();
        imaginary = rotated.imag();
      }
  return x;
}

}  // namespace reference
