// Routing on the CPU: tokens are split into blocks of a fixed size; each block accumulates and
// counts separately, and the results of the blocks are combined in order.
#include "kernels/routing.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/ceil_div.h"
#include "kernels/checked_index.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/threads.h"

namespace smoe::kernels::cpu {
namespace {

constexpr std::int64_t kTokens = 64;     // tokens per block of the router kernels
constexpr std::int64_t kRows = 1 << 12;  // rows per block of the counting sort

template <class F>
void dispatch_logits(DType dtype, F&& f) {
  SMOE_CHECK(dtype == DType::f32 || dtype == DType::f64, "routing: logits must be f32 or f64; got ",
             name_of(dtype));
  dtype == DType::f32 ? f(float{}) : f(double{});
}

bool gates_are_renormalized(RouterScore score) {
  return score != RouterScore::softmax_topk;
}

/// Positive weights proportional to exp(z): exp(logit - maximum), or for the sigmoid score
/// sigmoid(logit) exp(-m) = 1 / (exp(m) + exp(m - logit)) with m = min(maximum, 0), so that the
/// largest weight is at least 1/2 for all logits. NaN logits make their weight and the sum NaN.
template <class T>
struct Weights {
  T maximum = -std::numeric_limits<T>::infinity();
  T sum = 0;

  /// Of logit(0), ..., logit(size - 1); writes their weights to `out`.
  template <class Logit>
  Weights(RouterScore score, std::int64_t size, Logit&& logit, T* out) {
#pragma omp simd reduction(max : maximum)
    for (std::int64_t i = 0; i < size; ++i) maximum = std::max(maximum, logit(i));
    if (score == RouterScore::sigmoid) {
      const T shift = std::min(maximum, T(0)), scale = cpu::exp(shift);
#pragma omp simd
      for (std::int64_t i = 0; i < size; ++i) out[i] = 1 / (scale + cpu::exp(shift - logit(i)));
    } else {
#pragma omp simd
      for (std::int64_t i = 0; i < size; ++i) out[i] = cpu::exp(logit(i) - maximum);
    }
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < size; ++i) sum += out[i];
  }
};

template <class T>
struct LogSumExp {
  T maximum, sum;

  LogSumExp(const T* x, std::int64_t size) {
    T largest = -std::numeric_limits<T>::infinity(), total = 0;
#pragma omp simd reduction(max : largest)
    for (std::int64_t i = 0; i < size; ++i) largest = std::max(largest, x[i]);
#pragma omp simd reduction(+ : total)
    for (std::int64_t i = 0; i < size; ++i) total += cpu::exp(x[i] - largest);
    maximum = largest;
    sum = total;
  }
  T value() const {
    return maximum + std::log(sum);
  }
};

/// Writes the `top_k` experts with the largest keys to `ids` in descending order, by insertion.
/// `best` [K] is scratch.
template <class T>
void select_top_k(const T* keys, std::int64_t num_experts, std::int64_t top_k, T* best,
                  std::int32_t* ids) {
  const auto beats = [](T a, T b) { return a > b || (std::isnan(b) && !std::isnan(a)); };
  std::int64_t size = 0;
  for (std::int64_t e = 0; e < num_experts; ++e) {
    if (size == top_k && !beats(keys[e], best[size - 1])) continue;
    std::int64_t at = size < top_k ? size++ : size - 1;
    // An expert ranks after those it ties with: they have lower indices.
    for (; at > 0 && beats(keys[e], best[at - 1]); --at) {
      best[at] = best[at - 1];
      ids[at] = ids[at - 1];
    }
    best[at] = keys[e];
    ids[at] = static_cast<std::int32_t>(e);
  }
}

/// The keys of sigmoid routing: sigmoid(logits) + bias.
template <class T>
void compute_biased_scores(const T* logits, const float* bias, std::int64_t num_experts, T* keys) {
#pragma omp simd
  for (std::int64_t e = 0; e < num_experts; ++e) keys[e] = cpu::sigmoid(logits[e]);
  if (!bias) return;
  for (std::int64_t e = 0; e < num_experts; ++e) keys[e] += T(bias[e]);
}

/// Routes tokens [begin, end) and writes their `sums` [E + 1]; `row` [E] is scratch.
template <class T>
void forward_block(const RouterForwardArgs& args, std::int64_t begin, std::int64_t end,
                   double* sums, T* row) {
  const std::int64_t num_experts = args.logits.cols, top_k = args.top_k;
  const bool is_sigmoid = args.score == RouterScore::sigmoid;
  std::fill(sums, sums + num_experts + 1, 0.0);
  for (std::int64_t t = begin; t < end; ++t) {
    const T* logits = args.logits.row<T>(t);
    T* gates = static_cast<T*>(args.gates) + t * top_k;
    std::int32_t* ids = args.expert_ids + t * top_k;
    if (!args.is_chosen) {
      if (is_sigmoid) compute_biased_scores(logits, args.selection_bias, num_experts, row);
      select_top_k(is_sigmoid ? row : logits, num_experts, top_k, gates, ids);
    }

    const auto logit = [=](std::int64_t e) { return logits[e]; };
    const auto chosen_logit = [=](std::int64_t j) {
      return logits[checked_index(ids[j], num_experts)];
    };
    const Weights<T> all(args.score, num_experts, logit, row);
    if (gates_are_renormalized(args.score)) {
      const Weights<T> chosen(args.score, top_k, chosen_logit, gates);
      for (std::int64_t j = 0; j < top_k; ++j) gates[j] /= chosen.sum;
    } else {
      for (std::int64_t j = 0; j < top_k; ++j)
        gates[j] = row[checked_index(ids[j], num_experts)] / all.sum;
    }

    const T inverse = 1 / all.sum;
    for (std::int64_t e = 0; e < num_experts; ++e) sums[e] += row[e] * inverse;
    const double log_sum_exp =
        is_sigmoid ? LogSumExp<T>(logits, num_experts).value() : all.maximum + std::log(all.sum);
    sums[num_experts] += log_sum_exp * log_sum_exp;
  }
}

/// The backward of one token. balance_scale f_e N = dbalance/dq[t, e]; z_scale lse = dz/dlse.
template <class T>
void backward_row(const RouterBackwardArgs& args, std::int64_t t, T balance_scale, T z_scale) {
  const std::int64_t num_experts = args.logits.cols, top_k = args.top_k;
  const std::int32_t* const ids = args.expert_ids + t * top_k;
  const std::int32_t* const offsets = args.expert_offsets;
  const T* const logits = args.logits.row<T>(t);
  const T* const gates = static_cast<const T*>(args.gates) + t * top_k;
  const T* const dgates = args.dgates ? static_cast<const T*>(args.dgates) + t * top_k : nullptr;
  T* const dlogits = args.dlogits.row<T>(t);  // weights, then dz, then the result
  const bool is_sigmoid = args.score == RouterScore::sigmoid;

  const auto logit = [=](std::int64_t e) { return logits[e]; };
  const Weights<T> all(args.score, num_experts, logit, dlogits);
  const auto dq = [=](std::int64_t e) { return balance_scale * T(offsets[e + 1] - offsets[e]); };
  T gate_dot = 0, balance_dot = 0;
  if (dgates)
    for (std::int64_t j = 0; j < top_k; ++j) gate_dot += gates[j] * dgates[j];
#pragma omp simd reduction(+ : balance_dot)
  for (std::int64_t e = 0; e < num_experts; ++e) balance_dot += dlogits[e] / all.sum * dq(e);
  // The gradient of a softmax is p (dp - sum p dp). The sum for the gates is over the chosen
  // experts only, or over all of them if the gates are q itself.
  const T dot_of_all = gates_are_renormalized(args.score) ? balance_dot : balance_dot + gate_dot;
  const T dot_of_chosen = gates_are_renormalized(args.score) ? gate_dot : T(0);
  const T dlse = is_sigmoid ? T(0) : z_scale * (all.maximum + std::log(all.sum));
#pragma omp simd
  for (std::int64_t e = 0; e < num_experts; ++e)
    dlogits[e] = dlogits[e] / all.sum * (dq(e) - dot_of_all + dlse);
  if (dgates)
    for (std::int64_t j = 0; j < top_k; ++j)
      dlogits[checked_index(ids[j], num_experts)] += gates[j] * (dgates[j] - dot_of_chosen);
  if (!is_sigmoid) return;

#pragma omp simd
  for (std::int64_t e = 0; e < num_experts; ++e) dlogits[e] *= cpu::sigmoid(-logits[e]);
  if (z_scale == 0) return;
  const LogSumExp<T> lse(logits, num_experts);
  const T factor = z_scale * lse.value() / lse.sum;
#pragma omp simd
  for (std::int64_t e = 0; e < num_experts; ++e)
    dlogits[e] += factor * cpu::exp(logits[e] - lse.maximum);
}

/// The counts of one block of rows per expert, later its next free rows.
std::int32_t* block_counts(const GroupByExpertArgs& args, std::int64_t block) {
  return static_cast<std::int32_t*>(args.workspace) + block * args.num_experts;
}

/// Replaces counts by first rows: an exclusive scan over experts, then over blocks, so that the
/// rows of an expert keep their order.
void scan_counts(const GroupByExpertArgs& args) {
  const std::int64_t blocks = ceil_div(args.num_rows, kRows);
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

std::int64_t router_forward_workspace_bytes(const Launch&, const RouterForwardArgs& args) {
  const std::int64_t numbers = 2 * args.logits.cols + 1;
  return ceil_div(args.logits.rows, kTokens) * numbers * std::int64_t{sizeof(double)};
}

void router_forward(const Launch&, const RouterForwardArgs& args) {
  const std::int64_t num_tokens = args.logits.rows, num_experts = args.logits.cols;
  // Per block: its sums [E + 1], then scratch for one row of weights.
  double* const workspace = static_cast<double*>(args.workspace);
  const std::int64_t stride = 2 * num_experts + 1;
  dispatch_logits(args.logits.dtype, [&](auto type) {
    using T = decltype(type);
    parallel_blocks(num_tokens, kTokens, [&](std::int64_t begin, std::int64_t end, int) {
      double* sums = workspace + begin / kTokens * stride;
      forward_block<T>(args, begin, end, sums, reinterpret_cast<T*>(sums + num_experts + 1));
    });
  });
  std::fill(args.sums, args.sums + num_experts + 1, 0.0);
  for (std::int64_t block = 0; block < ceil_div(num_tokens, kTokens); ++block)
    for (std::int64_t i = 0; i <= num_experts; ++i) args.sums[i] += workspace[block * stride + i];
}

std::int64_t group_by_expert_workspace_bytes(const Launch&, const GroupByExpertArgs& args) {
  return ceil_div(args.num_rows, kRows) * args.num_experts * std::int64_t{sizeof(std::int32_t)};
}

void group_by_expert(const Launch&, const GroupByExpertArgs& args) {
  parallel_blocks(args.num_rows, kRows, [&](std::int64_t begin, std::int64_t end, int) {
    std::int32_t* counts = block_counts(args, begin / kRows);
    std::fill(counts, counts + args.num_experts, 0);
    for (std::int64_t i = begin; i < end; ++i)
      ++counts[checked_index(args.expert_ids[i], args.num_experts)];
  });
  scan_counts(args);
  parallel_blocks(args.num_rows, kRows, [&](std::int64_t begin, std::int64_t end, int) {
    std::int32_t* next = block_counts(args, begin / kRows);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int32_t row = next[checked_index(args.expert_ids[i], args.num_experts)]++;
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
    parallel_blocks(num_tokens, kTokens, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t t = begin; t < end; ++t) backward_row<T>(args, t, balance_scale, z_scale);
    });
  });
}

void add_routing(const Launch&, const AddRoutingArgs& args) {
  dispatch_logits(args.loss_dtype, [&](auto type) {
    using T = decltype(type);
    double* totals = args.totals;
    for (const LayerRouting& layer : args.layers) {
      for (std::int64_t e = 0; e < args.num_experts; ++e)
        totals[e] += layer.expert_offsets[e + 1] - layer.expert_offsets[e];
      totals[args.num_experts] += *static_cast<const T*>(layer.balance_loss);
      totals[args.num_experts + 1] += *static_cast<const T*>(layer.z_loss);
      totals += args.num_experts + 2;
    }
  });
}

}  // namespace smoe::kernels::cpu
