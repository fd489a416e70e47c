// Expert layers as plain loops in double. Arrays of routed rows are in (token, slot) order.
// `round` is applied where the layers store an intermediate array, to reproduce each rounding of a
// narrower storage type.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "tests/reference/activation.h"

namespace reference {

using Values = std::vector<double>;
using Round = std::function<double(double)>;

/// The experts [T, K] of each token.
struct Routed {
  std::int64_t num_tokens, top_k, num_experts;
  std::vector<std::int32_t> expert_ids;

  std::int64_t num_pairs() const { return num_tokens * top_k; }
  /// The row of an array of T or T*K rows that holds a pair.
  std::int64_t row(std::int64_t pair, std::int64_t num_rows) const {
    return num_rows == num_pairs() ? pair : pair / top_k;
  }
};

inline void round_all(Values& values, const Round& round) {
  if (!round) return;
  for (double& value : values) value = round(value);
}

/// y [T*K, out] = W[e] x + b[e]; x [T, in] or [T*K, in], w [E, out, in], b [E, out] or empty.
inline Values project(const Routed& routed, const Values& x, const Values& w, const Values& b,
                      std::int64_t in, std::int64_t out) {
  const auto num_rows = static_cast<std::int64_t>(x.size()) / in;
  Values y(routed.num_pairs() * out);
  for (std::int64_t pair = 0; pair < routed.num_pairs(); ++pair) {
    const std::int64_t e = routed.expert_ids[pair], row = routed.row(pair, num_rows);
    for (std::int64_t o = 0; o < out; ++o) {
      double sum = b.empty() ? 0 : b[e * out + o];
      for (std::int64_t i = 0; i < in; ++i) sum += w[(e * out + o) * in + i] * x[row * in + i];
      y[pair * out + o] = sum;
    }
  }
  return y;
}

/// dx of each pair [T*K, in] = W[e]^T dy; dy [T, out] or [T*K, out].
inline Values project_back(const Routed& routed, const Values& dy, const Values& w, std::int64_t in,
                           std::int64_t out) {
  const auto num_rows = static_cast<std::int64_t>(dy.size()) / out;
  Values dx(routed.num_pairs() * in, 0);
  for (std::int64_t pair = 0; pair < routed.num_pairs(); ++pair) {
    const std::int64_t e = routed.expert_ids[pair], row = routed.row(pair, num_rows);
    for (std::int64_t o = 0; o < out; ++o)
      for (std::int64_t i = 0; i < in; ++i)
        dx[pair * in + i] += w[(e * out + o) * in + i] * dy[row * out + o];
  }
  return dx;
}

/// dw [E, out, in] = sum over an expert's pairs of dy x^T; each of dy and x [T, .] or [T*K, .].
inline Values weight_gradient(const Routed& routed, const Values& dy, const Values& x,
                              std::int64_t in, std::int64_t out) {
  const auto dy_rows = static_cast<std::int64_t>(dy.size()) / out;
  const auto x_rows = static_cast<std::int64_t>(x.size()) / in;
  Values dw(routed.num_experts * out * in, 0);
  for (std::int64_t pair = 0; pair < routed.num_pairs(); ++pair) {
    const std::int64_t e = routed.expert_ids[pair];
    const std::int64_t dy_row = routed.row(pair, dy_rows), x_row = routed.row(pair, x_rows);
    for (std::int64_t o = 0; o < out; ++o)
      for (std::int64_t i = 0; i < in; ++i)
        dw[(e * out + o) * in + i] += dy[dy_row * out + o] * x[x_row * in + i];
  }
  return dw;
}

/// db [E, out] = sum over an expert's pairs of dy [T*K, out].
inline Values bias_gradient(const Routed& routed, const Values& dy, std::int64_t out) {
  Values db(routed.num_experts * out, 0);
  for (std::int64_t pair = 0; pair < routed.num_pairs(); ++pair)
    for (std::int64_t o = 0; o < out; ++o)
      db[routed.expert_ids[pair] * out + o] += dy[pair * out + o];
  return db;
}

/// [T, cols] = sum over a token's pairs of gates [T, K] (ones if empty) times rows [T*K, cols].
inline Values sum_pairs(const Routed& routed, const Values& rows, const Values& gates,
                        std::int64_t cols) {
  Values sum(routed.num_tokens * cols, 0);
  for (std::int64_t pair = 0; pair < routed.num_pairs(); ++pair)
    for (std::int64_t i = 0; i < cols; ++i)
      sum[pair / routed.top_k * cols + i] +=
          (gates.empty() ? 1 : gates[pair]) * rows[pair * cols + i];
  return sum;
}

/// dgates [T, K] = <rows of a pair, dout of its token>.
inline Values gates_gradient(const Routed& routed, const Values& rows, const Values& dout,
                             std::int64_t cols) {
  Values dgates(routed.num_pairs(), 0);
  for (std::int64_t pair = 0; pair < routed.num_pairs(); ++pair)
    for (std::int64_t i = 0; i < cols; ++i)
      dgates[pair] += rows[pair * cols + i] * dout[pair / routed.top_k * cols + i];
  return dgates;
}

/// The routed rows [T*K, cols] of dout [T, cols], each multiplied by its gate.
inline Values gate_rows(const Routed& routed, const Values& dout, const Values& gates,
                        std::int64_t cols) {
  Values rows(routed.num_pairs() * cols);
  for (std::int64_t pair = 0; pair < routed.num_pairs(); ++pair)
    for (std::int64_t i = 0; i < cols; ++i)
      rows[pair * cols + i] = gates[pair] * dout[pair / routed.top_k * cols + i];
  return rows;
}

struct Mlp {
  Values h, a, out;             // [T*K, width(f)], [T*K, f] with the gate, [T, d]
  Values dx, dgates, dw1, dw2;  // gradients, in the shapes of what they belong to
  Values dh;                    // [T*K, width(f)]
};

/// Everything from the pre-activations h [T*K, width(f)] to the output, given its gradient dout: a,
/// out, dgates, dh, dw2.
inline Mlp mlp_from_h(const Routed& routed, const Values& h, const Values& gates, const Values& w2,
                      const Values& dout, std::int64_t d, std::int64_t f, const Act& act,
                      const Round& round = {}) {
  const std::int64_t width = act.width(f), pairs = routed.num_pairs();
  Mlp m;
  m.h = h;
  m.a.resize(pairs * f);
  m.dgates.assign(pairs, 0);
  m.dh.resize(pairs * width);
  const Values da = project_back(routed, dout, w2, f, d);
  for (std::int64_t p = 0; p < pairs; ++p)
    for (std::int64_t i = 0; i < f; ++i) {
      const double alpha = act.at(&h[p * width], f, i), da_i = da[p * f + i];
      m.a[p * f + i] = gates[p] * alpha;
      m.dgates[p] += da_i * alpha;
      act.backward(&h[p * width], gates[p] * da_i, f, i, &m.dh[p * width]);
    }
  round_all(m.a, round);
  round_all(m.dh, round);
  Values y = project(routed, m.a, w2, {}, f, d);
  round_all(y, round);
  m.out = sum_pairs(routed, y, {}, d);
  m.dw2 = weight_gradient(routed, dout, m.a, f, d);
  return m;
}

/// out[t] = sum_j gates[t, j] W2 act(W1 x[t]) and its backward from dout.
inline Mlp mlp(const Routed& routed, const Values& x, const Values& gates, const Values& w1,
               const Values& w2, const Values& dout, std::int64_t d, std::int64_t f, const Act& act,
               const Round& round = {}) {
  const std::int64_t width = act.width(f);
  Values h = project(routed, x, w1, {}, d, width);
  round_all(h, round);
  Mlp m = mlp_from_h(routed, h, gates, w2, dout, d, f, act, round);
  m.dw1 = weight_gradient(routed, m.dh, x, d, width);
  Values dx = project_back(routed, m.dh, w1, d, width);
  round_all(dx, round);
  m.dx = sum_pairs(routed, dx, {}, d);
  return m;
}

}  // namespace reference
