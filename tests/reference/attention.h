// Causal grouped-query attention and its gradient in double, with whole rows of probabilities.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace reference {

struct AttentionSizes {
  std::int64_t num_sequences, seq_len, num_heads, num_kv_heads, width;
  bool is_interleaved = false;

  std::int64_t packed() const { return (num_heads + 2 * num_kv_heads) * width; }
  std::int64_t row(std::int64_t sequence, std::int64_t position) const {
    return sequence * seq_len + position;
  }
  // Where a vector of `width` numbers starts: of a query, the key or value it meets, its output.
  std::int64_t q(std::int64_t row, std::int64_t head) const {
    return row * packed() + head * width;
  }
  std::int64_t k(std::int64_t row, std::int64_t head) const {
    const std::int64_t kv_head =
        is_interleaved ? head % num_kv_heads : head * num_kv_heads / num_heads;
    return row * packed() + (num_heads + kv_head) * width;
  }
  std::int64_t v(std::int64_t row, std::int64_t head) const {
    return k(row, head) + num_kv_heads * width;
  }
  std::int64_t output(std::int64_t row, std::int64_t head) const {
    return (row * num_heads + head) * width;
  }
};

inline double dot(std::int64_t n, const double* a, const double* b) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

struct Attention {
  std::vector<double> output;     // [T, H C]
  std::vector<double> logsumexp;  // [B, H, S]
};

// Probabilities of the keys 0..position of one query; the logsumexp of its scores is written to
// *total.
inline std::vector<double> probabilities(const AttentionSizes& sizes,
                                         const std::vector<double>& qkv, std::int64_t sequence,
                                         std::int64_t head, std::int64_t position, double* total) {
  std::vector<double> p;
  const double* q = qkv.data() + sizes.q(sizes.row(sequence, position), head);
  for (std::int64_t j = 0; j <= position; ++j)
    p.push_back(dot(sizes.width, q, qkv.data() + sizes.k(sizes.row(sequence, j), head)) /
                std::sqrt(double(sizes.width)));
  const double largest = *std::max_element(p.begin(), p.end());
  double sum = 0;
  for (const double score : p) sum += std::exp(score - largest);
  *total = largest + std::log(sum);
  for (double& value : p) value = std::exp(value - *total);
  return p;
}

template <class F>
void for_each_query(const AttentionSizes& sizes, F&& f) {
  for (std::int64_t sequence = 0; sequence < sizes.num_sequences; ++sequence)
    for (std::int64_t head = 0; head < sizes.num_heads; ++head)
      for (std::int64_t position = 0; position < sizes.seq_len; ++position)
        f(sequence, head, position);
}

inline Attention attention(const AttentionSizes& sizes, const std::vector<double>& qkv) {
  Attention result{
      std::vector<double>(sizes.num_sequences * sizes.seq_len * sizes.num_heads * sizes.width, 0),
      {}};
  for_each_query(sizes, [&](std::int64_t sequence, std::int64_t head, std::int64_t position) {
    double total;
    const auto p = probabilities(sizes, qkv, sequence, head, position, &total);
    result.logsumexp.push_back(total);
    for (std::int64_t j = 0; j <= position; ++j)
      for (std::int64_t c = 0; c < sizes.width; ++c)
        result.output[sizes.output(sizes.row(sequence, position), head) + c] +=
            p[j] * qkv[sizes.v(sizes.row(sequence, j), head) + c];
  });
  return result;
}

/// dqkv [T, (H + 2 Hkv) C]. dP_j = <dO, v_j>, ds_j = p_j (dP_j - sum_l p_l dP_l).
inline std::vector<double> attention_backward(const AttentionSizes& sizes,
                                              const std::vector<double>& qkv,
                                              const std::vector<double>& doutput) {
  std::vector<double> dqkv(qkv.size(), 0);
  for_each_query(sizes, [&](std::int64_t sequence, std::int64_t head, std::int64_t position) {
    double total, mean = 0;
    const auto p = probabilities(sizes, qkv, sequence, head, position, &total);
    const std::int64_t row = sizes.row(sequence, position);
    const double* gradient = doutput.data() + sizes.output(row, head);
    std::vector<double> dp;
    for (std::int64_t j = 0; j <= position; ++j) {
      dp.push_back(dot(sizes.width, gradient, qkv.data() + sizes.v(sizes.row(sequence, j), head)));
      mean += p[j] * dp[j];
    }
    for (std::int64_t j = 0; j <= position; ++j) {
      const std::int64_t other = sizes.row(sequence, j);
      const double ds = p[j] * (dp[j] - mean) / std::sqrt(double(sizes.width));
      for (std::int64_t c = 0; c < sizes.width; ++c) {
        dqkv[sizes.v(other, head) + c] += p[j] * gradient[c];
        dqkv[sizes.q(row, head) + c] += ds * qkv[sizes.k(other, head) + c];
        dqkv[sizes.k(other, head) + c] += ds * qkv[sizes.q(row, head) + c];
      }
    }
  });
  return dqkv;
}

}  // namespace reference
