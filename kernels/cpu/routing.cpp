// Routing on the CPU: tokens are cut into blocks of a fixed size, each block sums and counts for
// itself, and the blocks are joined in order.
#include "kernels/routing.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/thread_pool.h"

namespace smoe::kernels {
namespace {

constexpr std::int64_t kTokens = 64;     // a block of router work
constexpr std::int64_t kRows = 1 << 12;  // a block of the counting sort

std::int64_t num_blocks(std::int64_t size, std::int64_t block) {
  return (size + block - 1) / block;
}

template <class F>
void dispatch_logits(DType dtype, F&& f) {
  SMOE_CHECK(dtype == DType::f32 || dtype == DType::f64, "routing: logits must be f32 or f64; got ",
             name_of(dtype));
  dtype == DType::f32 ? f(float{}) : f(double{});
}

template <class T>
T sigmoid(T x) {
  return 1 / (1 + std::exp(-x));
}

template <class T>
T log_sigmoid(T x) {
  return std::min(x, T(0)) - std::log1p(std::exp(-std::abs(x)));
}

/// The quantity whose softmax are probabilities and gates.
template <class T>
T z_of(RouterScore score, T logit) {
  return score == RouterScore::sigmoid ? log_sigmoid(logit) : logit;
}

bool gates_are_renormalised(RouterScore score) {
  return score != RouterScore::softmax_topk;
}

/// Softmax over `size` numbers z(i), as maximum and sum of exp(z - maximum).
template <class T>
struct Softmax {
  T maximum = -std::numeric_limits<T>::infinity();
  T sum = 0;

  template <class Z>
  Softmax(std::int64_t size, Z&& z) {
    for (std::int64_t i = 0; i < size; ++i) maximum = std::max(maximum, T(z(i)));
    for (std::int64_t i = 0; i < size; ++i) sum += std::exp(z(i) - maximum);
  }
  T operator()(T z) const { return std::exp(z - maximum) / sum; }
  T log_sum_exp() const { return maximum + std::log(sum); }
};

/// The `top_k` experts of largest key(e) in falling order, by insertion. `keys` is scratch.
template <class T, class Key>
void choose(std::int64_t num_experts, std::int64_t top_k, Key&& key, T* keys, std::int32_t* ids) {
  const auto beats = [](T a, T b) { return a > b || (std::isnan(b) && !std::isnan(a)); };
  std::int64_t size = 0;
  for (std::int64_t e = 0; e < num_experts; ++e) {
    const T candidate = key(e);
    if (size == top_k && !beats(candidate, keys[size - 1])) continue;
    std::int64_t at = size < top_k ? size++ : size - 1;
    // An expert stays behind those it ties with: they have lower numbers.
    for (; at > 0 && beats(candidate, keys[at - 1]); --at) {
      keys[at] = keys[at - 1];
      ids[at] = ids[at - 1];
    }
    keys[at] = candidate;
    ids[at] = static_cast<std::int32_t>(e);
  }
}

template <class T>
void forward_block(const RouterForwardArgs& args, std::int64_t begin, std::int64_t end,
                   double* sums, T* z) {
  const std::int64_t num_experts = args.logits.cols, top_k = args.top_k;
  const float* bias = args.selection_bias;
  const bool is_sigmoid = args.score == RouterScore::sigmoid;
  std::fill(sums, sums + num_experts + 1, 0.0);
  for (std::int64_t t = begin; t < end; ++t) {
    const T* logits = args.logits.row<T>(t);
    T* gates = static_cast<T*>(args.gates) + t * top_k;
    std::int32_t* ids = args.expert_ids + t * top_k;
    const auto key = [&](std::int64_t e) {
      return is_sigmoid ? sigmoid(logits[e]) + (bias ? T(bias[e]) : T(0)) : logits[e];
    };
    choose(num_experts, top_k, key, gates, ids);

    for (std::int64_t e = 0; e < num_experts; ++e) z[e] = z_of(args.score, logits[e]);
    const Softmax<T> over_all(num_experts, [&](std::int64_t e) { return z[e]; });
    const auto chosen = [&](std::int64_t j) { return z[ids[j]]; };
    const Softmax<T> gate =
        gates_are_renormalised(args.score) ? Softmax<T>(top_k, chosen) : over_all;
    for (std::int64_t j = 0; j < top_k; ++j) gates[j] = gate(chosen(j));

    const double log_sum_exp =
        is_sigmoid
            ? Softmax<T>(num_experts, [&](std::int64_t e) { return logits[e]; }).log_sum_exp()
            : over_all.log_sum_exp();
    for (std::int64_t e = 0; e < num_experts; ++e) sums[e] += over_all(z[e]);
    sums[num_experts] += log_sum_exp * log_sum_exp;
  }
}

template <class T>
void backward_row(const RouterBackwardArgs& args, std::int64_t t, T balance_scale, T z_scale) {
  const std::int64_t num_experts = args.logits.cols, top_k = args.top_k;
  const T* logits = args.logits.row<T>(t);
  const std::int32_t* ids = args.expert_ids + t * top_k;
  const T* dgates = args.dgates ? static_cast<const T*>(args.dgates) + t * top_k : nullptr;
  T* dlogits = args.dlogits.row<T>(t);  // z, then dz, then the result
  const bool is_sigmoid = args.score == RouterScore::sigmoid;

  for (std::int64_t e = 0; e < num_experts; ++e) dlogits[e] = z_of(args.score, logits[e]);
  const Softmax<T> over_all(num_experts, [&](std::int64_t e) { return dlogits[e]; });
  // dbalance/dq[t, e] = E f_e / T, as in router_losses.
  const auto dq = [&](std::int64_t e) {
    return balance_scale * T(args.expert_offsets[e + 1] - args.expert_offsets[e]);
  };
  const auto chosen = [&](std::int64_t j) { return z_of(args.score, logits[ids[j]]); };
  const Softmax<T> gate = gates_are_renormalised(args.score) ? Softmax<T>(top_k, chosen) : over_all;

  T gate_dot = 0, balance_dot = 0;
  if (dgates)
    for (std::int64_t j = 0; j < top_k; ++j) gate_dot += gate(chosen(j)) * dgates[j];
  for (std::int64_t e = 0; e < num_experts; ++e) {
    dlogits[e] = over_all(dlogits[e]);
    balance_dot += dlogits[e] * dq(e);
  }
  // Where the gates are q itself, every expert feels them through the common sum.
  const T common = gates_are_renormalised(args.score) ? balance_dot : balance_dot + gate_dot;
  const T lse_factor = is_sigmoid ? T(0) : z_scale * over_all.log_sum_exp();
  for (std::int64_t e = 0; e < num_experts; ++e) dlogits[e] *= dq(e) - common + lse_factor;
  if (dgates) {
    const T subtracted = gates_are_renormalised(args.score) ? gate_dot : T(0);
    for (std::int64_t j = 0; j < top_k; ++j)
      dlogits[ids[j]] += gate(chosen(j)) * (dgates[j] - subtracted);
  }
  if (!is_sigmoid) return;
  for (std::int64_t e = 0; e < num_experts; ++e) dlogits[e] *= sigmoid(-logits[e]);
  if (z_scale == 0) return;
  const Softmax<T> of_logits(num_experts, [&](std::int64_t e) { return logits[e]; });
  const T factor = z_scale * of_logits.log_sum_exp();
  for (std::int64_t e = 0; e < num_experts; ++e) dlogits[e] += factor * of_logits(logits[e]);
}

/// Counts, then next free rows, of one block of rows: one number an expert.
std::int32_t* block_counts(const GroupByExpertArgs& args, std::int64_t block) {
  return static_cast<std::int32_t*>(args.workspace) + block * args.num_experts;
}

/// Turns counts into first rows: over experts first, over blocks second, so that rows of one expert
/// keep their order.
void scan_counts(const GroupByExpertArgs& args) {
  const std::int64_t blocks = num_blocks(args.num_rows, kRows);
  std::int32_t row = 0;
  for (std::int64_t e = 0; e < args.num_experts; ++e) {
    args.expert_offsets[e] = row;
    for (std::int64_t block = 0; block < blocks; ++block) {
      std::int32_t& count = block_counts(args, block)[e];
      const std::int32_t first = row;
      row += count;
      count = first;
    }
  }
  args.expert_offsets[args.num_experts] = row;
}

}  // namespace

std::int64_t router_forward_workspace_bytes(const Launch&, std::int64_t num_tokens,
                                            std::int64_t num_experts) {
  return num_blocks(num_tokens, kTokens) * (2 * num_experts + 1) * std::int64_t{sizeof(double)};
}

void router_forward(const Launch&, const RouterForwardArgs& args) {
  const std::int64_t num_tokens = args.logits.rows, num_experts = args.logits.cols;
  // Of each block: its sums [E + 1], then scratch for one row of z.
  double* const workspace = static_cast<double*>(args.workspace);
  const std::int64_t stride = 2 * num_experts + 1;
  dispatch_logits(args.logits.dtype, [&](auto type) {
    using T = decltype(type);
    cpu::parallel_blocks(num_tokens, kTokens, [&](std::int64_t begin, std::int64_t end, int) {
      double* sums = workspace + begin / kTokens * stride;
      forward_block<T>(args, begin, end, sums, reinterpret_cast<T*>(sums + num_experts + 1));
    });
  });
  std::fill(args.sums, args.sums + num_experts + 1, 0.0);
  for (std::int64_t block = 0; block < num_blocks(num_tokens, kTokens); ++block)
    for (std::int64_t i = 0; i <= num_experts; ++i) args.sums[i] += workspace[block * stride + i];
}

std::int64_t group_by_expert_workspace_bytes(const Launch&, std::int64_t num_rows,
                                             std::int64_t num_experts) {
  return num_blocks(num_rows, kRows) * num_experts * std::int64_t{sizeof(std::int32_t)};
}

void group_by_expert(const Launch&, const GroupByExpertArgs& args) {
  cpu::parallel_blocks(args.num_rows, kRows, [&](std::int64_t begin, std::int64_t end, int) {
    std::int32_t* counts = block_counts(args, begin / kRows);
    std::fill(counts, counts + args.num_experts, 0);
    for (std::int64_t i = begin; i < end; ++i) ++counts[args.expert_ids[i]];
  });
  scan_counts(args);
  cpu::parallel_blocks(args.num_rows, kRows, [&](std::int64_t begin, std::int64_t end, int) {
    std::int32_t* next = block_counts(args, begin / kRows);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int32_t row = next[args.expert_ids[i]]++;
      args.sorted_expert_ids[row] = args.expert_ids[i];
      args.sorted_scattered_ids[row] = static_cast<std::int32_t>(i);
      args.grouped_rows[i] = row;
    }
  });
}

void router_losses(const Launch&, const RouterLossesArgs& args) {
  double balance = 0, z = 0;
  if (args.num_tokens > 0) {
    const double tokens = static_cast<double>(args.num_tokens);
    const double rows = args.expert_offsets[args.num_experts];
    for (std::int64_t e = 0; e < args.num_experts; ++e)
      balance += (args.expert_offsets[e + 1] - args.expert_offsets[e]) / rows * args.sums[e];
    balance *= static_cast<double>(args.num_experts) / tokens;
    z = args.sums[args.num_experts] / tokens;
  }
  dispatch_logits(args.dtype, [&](auto type) {
    using T = decltype(type);
    *static_cast<T*>(args.balance_loss) = T(balance);
    *static_cast<T*>(args.z_loss) = T(z);
  });
}

void router_backward(const Launch&, const RouterBackwardArgs& args) {
  const std::int64_t num_tokens = args.logits.rows, num_experts = args.logits.cols;
  const double tokens = static_cast<double>(num_tokens);
  const double rows = tokens * static_cast<double>(args.top_k);
  dispatch_logits(args.logits.dtype, [&](auto type) {
    using T = decltype(type);
    const auto value_or_zero = [](const void* scalar) {
      return scalar ? static_cast<double>(*static_cast<const T*>(scalar)) : 0.0;
    };
    const T balance_scale =
        T(value_or_zero(args.dbalance_loss) * static_cast<double>(num_experts) / (rows * tokens));
    const T z_scale = T(2 * value_or_zero(args.dz_loss) / tokens);
    cpu::parallel_blocks(num_tokens, kTokens, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t t = begin; t < end; ++t) backward_row<T>(args, t, balance_scale, z_scale);
    });
  });
}

void add_expert_load(const Launch&, const AddExpertLoadArgs& args) {
  for (std::int64_t e = 0; e < args.num_experts; ++e)
    args.load[e] += args.expert_offsets[e + 1] - args.expert_offsets[e];
}

}  // namespace smoe::kernels
