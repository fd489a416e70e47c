// The whole model as naive double loops: a Mixtral-like decoder (RMSNorm, rotary half-split,
// grouped-query attention, softmax -> top-k -> renormalized SwiGLU experts), its mean cross-entropy
// and its two router losses. Weights have their Hugging Face names. Includes no product headers.
#pragma once
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <vector>

namespace reference {

using Vector = std::vector<double>;
using Weights = std::map<std::string, Vector>;

struct TransformerSizes {
  int batch, seq_len, vocab, layers, width, heads, kv_heads, head_dim, experts, top_k, expert_width;
  double rope_theta, epsilon;
};

struct TransformerLosses {
  double cross_entropy = 0;  // mean over tokens
  double balance = 0;        // mean over layers of E sum_e f_e P_e
  double z = 0;              // mean over layers and tokens of logsumexp^2
};

// y [rows, out] = x [rows, in] W^T, W [out, in].
inline Vector project(const Vector& x, const Vector& w, int in) {
  const int out = static_cast<int>(w.size()) / in, rows = static_cast<int>(x.size()) / in;
  Vector y(static_cast<std::size_t>(rows) * out, 0.0);
  for (int r = 0; r < rows; ++r)
    for (int o = 0; o < out; ++o)
      for (int i = 0; i < in; ++i) y[r * out + o] += x[r * in + i] * w[o * in + i];
  return y;
}

inline Vector rms_normed(const Vector& x, const Vector& weight, double epsilon) {
  const int width = static_cast<int>(weight.size());
  Vector y(x.size());
  for (std::size_t r = 0; r < x.size() / width; ++r) {
    double squares = 0;
    for (int i = 0; i < width; ++i) squares += x[r * width + i] * x[r * width + i];
    const double scale = 1 / std::sqrt(squares / width + epsilon);
    for (int i = 0; i < width; ++i) y[r * width + i] = x[r * width + i] * scale * weight[i];
  }
  return y;
}

// Rotates the pairs (i, i + C/2) of every head by position * theta^(-2i/C).
inline void rotate(Vector& x, int heads, const TransformerSizes& s) {
  const int half = s.head_dim / 2;
  for (int t = 0; t < s.batch * s.seq_len; ++t)
    for (int h = 0; h < heads; ++h)
      for (int i = 0; i < half; ++i) {
        const double angle = (t % s.seq_len) * std::pow(s.rope_theta, -2.0 * i / s.head_dim);
        double& a = x[(t * heads + h) * s.head_dim + i];
        double& b = x[(t * heads + h) * s.head_dim + i + half];
        const double rotated = a * std::cos(angle) - b * std::sin(angle);
        b = b * std::cos(angle) + a * std::sin(angle);
        a = rotated;
      }
}

inline Vector attention(const Vector& x, const Weights& w, const std::string& name,
                        const TransformerSizes& s) {
  Vector q = project(x, w.at(name + ".q_proj.weight"), s.width);
  Vector k = project(x, w.at(name + ".k_proj.weight"), s.width);
  const Vector v = project(x, w.at(name + ".v_proj.weight"), s.width);
  rotate(q, s.heads, s);
  rotate(k, s.kv_heads, s);
  const int c = s.head_dim;
  Vector out(static_cast<std::size_t>(s.batch) * s.seq_len * s.heads * c, 0.0);
  for (int b = 0; b < s.batch; ++b)
    for (int h = 0; h < s.heads; ++h)
      for (int i = 0; i < s.seq_len; ++i) {
        const int kv = h / (s.heads / s.kv_heads);
        const auto query = [&](int n) { return q[((b * s.seq_len + i) * s.heads + h) * c + n]; };
        const auto at = [&](int j, int n) {
          return ((b * s.seq_len + j) * s.kv_heads + kv) * c + n;
        };
        Vector p(i + 1, 0.0);
        for (int j = 0; j <= i; ++j) {
          for (int n = 0; n < c; ++n) p[j] += query(n) * k[at(j, n)];
          p[j] /= std::sqrt(static_cast<double>(c));
        }
        const double top = *std::max_element(p.begin(), p.end());
        double sum = 0;
        for (double& e : p) sum += e = std::exp(e - top);
        for (int j = 0; j <= i; ++j)
          for (int n = 0; n < c; ++n)
            out[((b * s.seq_len + i) * s.heads + h) * c + n] += p[j] / sum * v[at(j, n)];
      }
  return project(out, w.at(name + ".o_proj.weight"), s.heads * c);
}

inline Vector experts(const Vector& x, const Weights& w, const std::string& name,
                      const TransformerSizes& s, TransformerLosses& losses) {
  const int tokens = s.batch * s.seq_len;
  const Vector logits = project(x, w.at(name + ".gate.weight"), s.width);
  Vector y(x.size(), 0.0), rows(s.experts, 0.0), mean_probability(s.experts, 0.0);
  double z = 0;
  for (int t = 0; t < tokens; ++t) {
    Vector p(s.experts);
    double sum = 0;
    for (int e = 0; e < s.experts; ++e) sum += p[e] = std::exp(logits[t * s.experts + e]);
    z += std::log(sum) * std::log(sum) / tokens;
    for (int e = 0; e < s.experts; ++e) mean_probability[e] += (p[e] /= sum) / tokens;
    std::vector<int> order(s.experts);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return p[a] > p[b]; });
    double chosen = 0;
    for (int j = 0; j < s.top_k; ++j) chosen += p[order[j]];
    const Vector token(x.begin() + t * s.width, x.begin() + (t + 1) * s.width);
    for (int j = 0; j < s.top_k; ++j) {
      const std::string expert = name + ".experts." + std::to_string(order[j]);
      rows[order[j]] += 1;
      Vector a = project(token, w.at(expert + ".w1.weight"), s.width);
      const Vector up = project(token, w.at(expert + ".w3.weight"), s.width);
      for (int i = 0; i < s.expert_width; ++i) a[i] *= up[i] / (1 + std::exp(-a[i]));
      const Vector out = project(a, w.at(expert + ".w2.weight"), s.expert_width);
      for (int i = 0; i < s.width; ++i) y[t * s.width + i] += p[order[j]] / chosen * out[i];
    }
  }
  for (int e = 0; e < s.experts; ++e)
    losses.balance += s.experts * rows[e] / (static_cast<double>(tokens) * s.top_k) *
                      mean_probability[e] / s.layers;
  losses.z += z / s.layers;
  return y;
}

/// Losses of `tokens` [B*S] against `targets` [B*S]; `logits`, if given, receives [B*S, V].
inline TransformerLosses transformer(const std::vector<int>& tokens,
                                     const std::vector<int>& targets, const Weights& w,
                                     const TransformerSizes& s, Vector* logits_out = nullptr) {
  TransformerLosses losses;
  Vector x;
  const Vector& embedding = w.at("model.embed_tokens.weight");
  for (const int token : tokens)
    x.insert(x.end(), embedding.begin() + token * s.width,
             embedding.begin() + (token + 1) * s.width);
  const auto add = [&](const Vector& delta) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += delta[i];
  };
  for (int l = 0; l < s.layers; ++l) {
    const std::string layer = "model.layers." + std::to_string(l);
    add(attention(rms_normed(x, w.at(layer + ".input_layernorm.weight"), s.epsilon), w,
                  layer + ".self_attn", s));
    add(experts(rms_normed(x, w.at(layer + ".post_attention_layernorm.weight"), s.epsilon), w,
                layer + ".block_sparse_moe", s, losses));
  }
  const auto head = w.find("lm_head.weight");
  const Vector logits = project(rms_normed(x, w.at("model.norm.weight"), s.epsilon),
                                head != w.end() ? head->second : embedding, s.width);
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    double sum = 0;
    for (int v = 0; v < s.vocab; ++v) sum += std::exp(logits[t * s.vocab + v]);
    losses.cross_entropy += (std::log(sum) - logits[t * s.vocab + targets[t]]) / tokens.size();
  }
  if (logits_out) *logits_out = logits;
  return losses;
}

}  // namespace reference
