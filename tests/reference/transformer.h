// The whole model as naive double loops: a Mixtral-like decoder (RMSNorm, rotary half-split,
// grouped-query attention or a mixture of it, softmax -> top-k -> renormalized SwiGLU experts), its
// mean cross-entropy and its two router losses. Weights have their Hugging Face names. Includes no
// product headers.
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
  int attention_experts = 0, attention_top_k = 0;  // of a mixture of attention

  int routers() const { return (attention_experts > 0 ? 2 : 1) * layers; }
};

struct TransformerLosses {
  double cross_entropy = 0;  // mean over tokens
  double balance = 0;        // mean over routers of E sum_e f_e P_e
  double z = 0;              // mean over routers and tokens of logsumexp^2
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

// The experts of each token and their gates, both [tokens, top_k].
struct Choice {
  std::vector<int> experts;
  Vector gates;
};

// Adds the router's losses.
inline Choice route(const Vector& x, const Vector& weight, int num_experts, int top_k,
                    const TransformerSizes& s, TransformerLosses& losses) {
  const int tokens = s.batch * s.seq_len;
  const Vector logits = project(x, weight, s.width);
  Choice choice;
  Vector rows(num_experts, 0.0), mean_probability(num_experts, 0.0);
  double z = 0;
  for (int t = 0; t < tokens; ++t) {
    Vector p(num_experts);
    double sum = 0;
    for (int e = 0; e < num_experts; ++e) sum += p[e] = std::exp(logits[t * num_experts + e]);
    z += std::log(sum) * std::log(sum) / tokens;
    for (int e = 0; e < num_experts; ++e) mean_probability[e] += (p[e] /= sum) / tokens;
    std::vector<int> order(num_experts);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return p[a] > p[b]; });
    double chosen = 0;
    for (int j = 0; j < top_k; ++j) chosen += p[order[j]];
    for (int j = 0; j < top_k; ++j) {
      rows[order[j]] += 1;
      choice.experts.push_back(order[j]);
      choice.gates.push_back(p[order[j]] / chosen);
    }
  }
  for (int e = 0; e < num_experts; ++e)
    losses.balance += num_experts * rows[e] / (static_cast<double>(tokens) * top_k) *
                      mean_probability[e] / s.routers();
  losses.z += z / s.routers();
  return choice;
}

// Query head h reads key head kv_of(h). q and k are rotated here.
template <class KvOf>
Vector attend(Vector q, Vector k, const Vector& v, const TransformerSizes& s, KvOf&& kv_of) {
  rotate(q, s.heads, s);
  rotate(k, s.kv_heads, s);
  const int c = s.head_dim;
  Vector out(static_cast<std::size_t>(s.batch) * s.seq_len * s.heads * c, 0.0);
  for (int b = 0; b < s.batch; ++b)
    for (int h = 0; h < s.heads; ++h)
      for (int i = 0; i < s.seq_len; ++i) {
        const int kv = kv_of(h);
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
  return out;
}

inline Vector attention(const Vector& x, const Weights& w, const std::string& name,
                        const TransformerSizes& s) {
  const Vector out = attend(project(x, w.at(name + ".q_proj.weight"), s.width),
                            project(x, w.at(name + ".k_proj.weight"), s.width),
                            project(x, w.at(name + ".v_proj.weight"), s.width), s,
                            [&](int h) { return h / (s.heads / s.kv_heads); });
  return project(out, w.at(name + ".o_proj.weight"), s.heads * s.head_dim);
}

// Adds the bias of that name, if there is one, to every row.
inline Vector with_bias(Vector y, const Weights& w, const std::string& name) {
  const auto bias = w.find(name);
  if (bias == w.end()) return y;
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += bias->second[i % bias->second.size()];
  return y;
}

inline Vector mixture_of_attention(const Vector& x, const Weights& w, const std::string& name,
                                   const TransformerSizes& s, TransformerLosses& losses) {
  const int tokens = s.batch * s.seq_len, width = s.heads / s.attention_top_k * s.head_dim;
  const Choice choice =
      route(x, w.at(name + ".gate.weight"), s.attention_experts, s.attention_top_k, s, losses);
  const auto matrix = [&](int pair, const char* projection) -> const Vector& {
    return w.at(name + ".experts." + std::to_string(choice.experts[pair]) + projection);
  };
  Vector q;
  for (int pair = 0; pair < tokens * s.attention_top_k; ++pair) {
    const auto token = x.begin() + pair / s.attention_top_k * s.width;
    const Vector row = project({token, token + s.width}, matrix(pair, ".q_proj.weight"), s.width);
    q.insert(q.end(), row.begin(), row.end());
  }
  const Vector out = attend(q, project(x, w.at(name + ".k_proj.weight"), s.width),
                            project(x, w.at(name + ".v_proj.weight"), s.width), s,
                            [&](int h) { return h % s.kv_heads; });
  Vector y(x.size(), 0.0);
  for (int pair = 0; pair < tokens * s.attention_top_k; ++pair) {
    const auto heads = out.begin() + pair * width;
    const Vector row = project({heads, heads + width}, matrix(pair, ".o_proj.weight"), width);
    for (int i = 0; i < s.width; ++i)
      y[pair / s.attention_top_k * s.width + i] += choice.gates[pair] * row[i];
  }
  return with_bias(y, w, name + ".output_bias");
}

inline Vector experts(const Vector& x, const Weights& w, const std::string& name,
                      const TransformerSizes& s, TransformerLosses& losses) {
  const Choice choice = route(x, w.at(name + ".gate.weight"), s.experts, s.top_k, s, losses);
  Vector y(x.size(), 0.0);
  for (int t = 0; t < s.batch * s.seq_len; ++t) {
    const Vector token(x.begin() + t * s.width, x.begin() + (t + 1) * s.width);
    for (int j = 0; j < s.top_k; ++j) {
      const int pair = t * s.top_k + j;
      const std::string expert = name + ".experts." + std::to_string(choice.experts[pair]);
      Vector a = project(token, w.at(expert + ".w1.weight"), s.width);
      const Vector up = project(token, w.at(expert + ".w3.weight"), s.width);
      for (int i = 0; i < s.expert_width; ++i) a[i] *= up[i] / (1 + std::exp(-a[i]));
      const Vector out = project(a, w.at(expert + ".w2.weight"), s.expert_width);
      for (int i = 0; i < s.width; ++i) y[t * s.width + i] += choice.gates[pair] * out[i];
    }
  }
  return with_bias(y, w, name + ".output_bias");
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
    const Vector normed = rms_normed(x, w.at(layer + ".input_layernorm.weight"), s.epsilon);
    add(s.attention_experts > 0 ? mixture_of_attention(normed, w, layer + ".self_attn", s, losses)
                                : attention(normed, w, layer + ".self_attn", s));
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
