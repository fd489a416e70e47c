// Dense GEMM as three loops in double.
#pragma once
#include <cstdint>
#include <vector>

namespace reference {

/// c [m, n] = op(a) op(b) + beta c, row-major.
inline void gemm(std::int64_t m, std::int64_t n, std::int64_t k, const std::vector<double>& a,
                 bool transpose_a, const std::vector<double>& b, bool transpose_b, double beta,
                 std::vector<double>& c) {
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::int64_t l = 0; l < k; ++l)
        sum += (transpose_a ? a[l * m + i] : a[i * k + l]) *
               (transpose_b ? b[j * k + l] : b[l * n + j]);
      c[i * n + j] = sum + (beta == 0 ? 0 : beta * c[i * n + j]);
    }
}

}  // namespace reference
