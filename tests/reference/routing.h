// Routing as naive double loops, each mode as in its paper: probabilities first, then top-k,
// then a division, with explicit Jacobians.
#pragma once
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace reference::routing {

enum class Score { softmax_topk_renorm, softmax_topk, topk_softmax, sigmoid };

struct Result {
  std::vector<int> expert_ids;   // [T, K]
  std::vector<double> gates;     // [T, K]
  std::vector<int> sorted_rows;  // [N], scattered ids by expert
  std::vector<int> offsets;      // [E + 1]
  double balance_loss = 0;
  double z_loss = 0;
};

inline std::vector<double> softmax(const std::vector<double>& x) {
  const double maximum = *std::max_element(x.begin(), x.end());
  std::vector<double> p;
  double sum = 0;
  for (const double value : x) sum += std::exp(value - maximum);
  for (const double value : x) p.push_back(std::exp(value - maximum) / sum);
  return p;
}

inline double log_sum_exp(const std::vector<double>& x) {
  const double maximum = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (const double value : x) sum += std::exp(value - maximum);
  return maximum + std::log(sum);
}

inline std::vector<double> sigmoid(const std::vector<double>& x) {
  std::vector<double> s;
  for (const double value : x) s.push_back(1 / (1 + std::exp(-value)));
  return s;
}

/// Scores of one token's logits: softmax or sigmoid.
inline std::vector<double> scores(Score score, const std::vector<double>& logits) {
  return score == Score::sigmoid ? sigmoid(logits) : softmax(logits);
}

/// The values whose mean the balance loss uses: scores that sum to one.
inline std::vector<double> probabilities(Score score, const std::vector<double>& logits) {
  std::vector<double> p = scores(score, logits);
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) value /= sum;
  return p;
}

inline std::vector<double> row_of(const std::vector<double>& x, int row, int cols) {
  return {x.begin() + row * cols, x.begin() + (row + 1) * cols};
}

/// Gates of one token over its chosen experts.
inline std::vector<double> gates_of(Score score, const std::vector<double>& logits,
                                    const std::vector<int>& chosen) {
  std::vector<double> gates;
  const std::vector<double> s = scores(score, logits);
  for (const int e : chosen) gates.push_back(score == Score::topk_softmax ? logits[e] : s[e]);
  if (score == Score::topk_softmax) return softmax(gates);
  const double sum = std::accumulate(gates.begin(), gates.end(), 0.0);
  if (score != Score::softmax_topk)
    for (double& gate : gates) gate /= sum;
  return gates;
}

inline Result forward(Score score, int num_tokens, int num_experts, int top_k,
                      const std::vector<double>& logits, const std::vector<double>& bias) {
  Result r;
  // Longer than double, so that sums over thousands of tokens are not the reference's own error.
  std::vector<long double> sum_prob(num_experts, 0);
  long double sum_z = 0, sum_balance = 0;
  std::vector<std::vector<int>> rows_of(num_experts);
  for (int t = 0; t < num_tokens; ++t) {
    const std::vector<double> x = row_of(logits, t, num_experts);
    std::vector<double> key = score == Score::sigmoid ? sigmoid(x) : x;
    for (int e = 0; e < num_experts && !bias.empty(); ++e) key[e] += bias[e];
    std::vector<int> order(num_experts);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return key[a] > key[b]; });
    order.resize(top_k);
    const std::vector<double> gates = gates_of(score, x, order);
    const std::vector<double> p = probabilities(score, x);
    for (int j = 0; j < top_k; ++j) {
      r.expert_ids.push_back(order[j]);
      r.gates.push_back(gates[j]);
      rows_of[order[j]].push_back(t * top_k + j);
    }
    for (int e = 0; e < num_experts; ++e) sum_prob[e] += p[e];
    sum_z += std::pow(log_sum_exp(x), 2);
  }
  r.offsets.push_back(0);
  for (int e = 0; e < num_experts; ++e) {
    r.sorted_rows.insert(r.sorted_rows.end(), rows_of[e].begin(), rows_of[e].end());
    r.offsets.push_back(static_cast<int>(r.sorted_rows.size()));
    sum_balance += sum_prob[e] * rows_of[e].size();
  }
  if (num_tokens == 0) return r;
  r.balance_loss = static_cast<double>(sum_balance * num_experts / num_tokens / num_tokens / top_k);
  r.z_loss = static_cast<double>(sum_z / num_tokens);
  return r;
}

/// dlogits [T, E] of sum dgates*gates + dbalance*balance_loss + dz*z_loss, with the choice held
/// fixed.
inline std::vector<double> backward(Score score, int num_tokens, int num_experts, int top_k,
                                    const std::vector<double>& logits, const Result& r,
                                    const std::vector<double>& dgates, double dbalance, double dz) {
  std::vector<double> dlogits;
  for (int t = 0; t < num_tokens; ++t) {
    const std::vector<double> x = row_of(logits, t, num_experts);
    const std::vector<double> s = scores(score, x), p = softmax(x);
    // ds_i/dlogit_e.
    const auto derivative = [&](int i, int e) {
      if (score == Score::sigmoid) return i == e ? s[i] * (1 - s[i]) : 0.0;
      return s[i] * ((i == e) - s[e]);
    };
    double chosen_sum = 0, all_sum = 0;
    for (int j = 0; j < top_k; ++j) chosen_sum += s[r.expert_ids[t * top_k + j]];
    for (const double value : s) all_sum += value;
    // dloss/ds_i through gates and balance loss, each maybe divided by a sum of scores.
    std::vector<double> ds(num_experts, 0);
    double gate_dot = 0, balance_dot = 0;
    std::vector<double> dq(num_experts);
    for (int j = 0; j < top_k; ++j) gate_dot += dgates[t * top_k + j] * r.gates[t * top_k + j];
    for (int e = 0; e < num_experts; ++e) {
      const double share = (r.offsets[e + 1] - r.offsets[e]) / double(num_tokens * top_k);
      dq[e] = dbalance * num_experts * share / num_tokens;
      balance_dot += dq[e] * s[e] / all_sum;
    }
    for (int e = 0; e < num_experts; ++e) ds[e] += (dq[e] - balance_dot) / all_sum;
    for (int j = 0; j < top_k; ++j) {
      const int e = r.expert_ids[t * top_k + j];
      const double dgate = dgates[t * top_k + j];
      ds[e] += score == Score::softmax_topk ? dgate : (dgate - gate_dot) / chosen_sum;
    }
    for (int e = 0; e < num_experts; ++e) {
      double sum = dz * 2 * log_sum_exp(x) * p[e] / num_tokens;
      for (int i = 0; i < num_experts; ++i) sum += ds[i] * derivative(i, e);
      dlogits.push_back(sum);
    }
  }
  return dlogits;
}

}  // namespace reference::routing
