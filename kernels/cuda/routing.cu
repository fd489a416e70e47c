// The router on a GPU: gates, their gradients and the auxiliary losses. One warp per token, whose
// lanes each process every 32nd expert, or one thread per token if experts are few. Sums over
// tokens are partial sums of fixed blocks, added in order. No launch configuration depends on the
// results of an earlier kernel.
#include "kernels/routing.h"

#include "kernels/cuda/device/checked_index.cuh"
#include "kernels/cuda/launch_following.cuh"
#include "kernels/cuda/routing.cuh"

namespace smoe::kernels::cuda {
namespace {

constexpr int kTokens = 64;  // per thread block of the router's forward

template <class F>
void dispatch_logits(DType dtype, F&& f) {
  SMOE_CHECK(dtype == DType::f32 || dtype == DType::f64, "routing: logits must be f32 or f64; got ",
             name_of(dtype));
  dtype == DType::f32 ? f(float{}) : f(double{});
}

__host__ __device__ constexpr bool gates_are_renormalized(RouterScore score) {
  return score != RouterScore::softmax_topk;
}

/// Ignores NaNs.
struct MaximumNumber {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return b > a ? b : a;
  }
};

template <class T>
__device__ T sigmoid_of(T x) {
  return 1 / (1 + exp(-x));
}

/// The threads that share a token: a warp.
struct Warp {
  static constexpr int kSize = kWarp;
  __device__ static int lane() { return lane_id(); }
  template <class T, class Op>
  __device__ static T reduce(T x, Op op) {
    return reduce_warp(x, op);
  }
  template <class T>
  __device__ static T other(T x, int distance) {
    return __shfl_xor_sync(~0u, x, distance);
  }
  __device__ static void sync() { __syncwarp(); }
};

/// One thread per token.
struct Thread {
  static constexpr int kSize = 1;
  __device__ static int lane() { return 0; }
  template <class T, class Op>
  __device__ static T reduce(T x, Op) {
    return x;
  }
  template <class T>
  __device__ static T other(T x, int) {
    return x;
  }
  __device__ static void sync() {}
};

constexpr int kMaxExpertsOfThread = 32;

/// Positive weights proportional to exp(z): exp(logit - maximum), or for the sigmoid score
/// sigmoid(logit) exp(-m) = 1 / (exp(m) + exp(m - logit)) with m = min(maximum, 0), so that the
/// largest weight is at least 1/2 for all logits. NaN logits make their weight and the sum NaN.
template <class Group, class T>
struct Weights {
  RouterScore score;
  T maximum;
  T sum = 0;

  /// Of logit(0), ..., logit(size - 1). Called by all threads of a group.
  template <class Logit>
  __device__ Weights(RouterScore score, int size, const Logit& logit)
      : score(score), maximum(-INFINITY) {
    for (int i = Group::lane(); i < size; i += Group::kSize)
      maximum = MaximumNumber{}(maximum, logit(i));
    maximum = Group::reduce(maximum, MaximumNumber{});
    for (int i = Group::lane(); i < size; i += Group::kSize) sum += (*this)(logit(i));
    sum = Group::reduce(sum, Sum{});
  }

  __device__ T operator()(T logit) const {
    if (score != RouterScore::sigmoid) return exp(logit - maximum);
    const T shift = maximum < 0 ? maximum : T(0);
    return 1 / (exp(shift) + exp(shift - logit));
  }
};

/// log sum exp(logit), from the weights of a softmax.
template <class Group, class T>
__device__ T log_sum_exp(const Weights<Group, T>& weights) {
  return weights.maximum + log(weights.sum);
}

/// An expert and the key by which it is chosen.
template <class T>
struct Choice {
  T key;
  int expert;

  /// Descending order of keys; a NaN ranks below every number, the lower expert wins a tie.
  __device__ bool comes_before(const Choice& other) const {
    const bool beats = key > other.key || (isnan(other.key) && !isnan(key));
    const bool is_beaten = other.key > key || (isnan(key) && !isnan(other.key));
    return beats || (!is_beaten && expert < other.expert);
  }
};

/// Writes the `top_k` experts with the largest key(e) to `ids` in descending order: each round
/// finds the first expert that comes after the previous one.
template <class Group, class T, class Key>
__device__ void select_top_k(const Key& key, int num_experts, int top_k, std::int32_t* ids) {
  Choice<T> last{};
  for (int j = 0; j < top_k; ++j) {
    constexpr int kNone = 0x7fffffff;
    Choice<T> best{T(NAN), kNone};  // after every expert
    for (int e = Group::lane(); e < num_experts; e += Group::kSize) {
      const Choice<T> candidate{key(e), e};
      if ((j == 0 || last.comes_before(candidate)) && candidate.comes_before(best))
        best = candidate;
    }
#pragma unroll
    for (int distance = Group::kSize / 2; distance > 0; distance /= 2) {
      const Choice<T> other{Group::other(best.key, distance), Group::other(best.expert, distance)};
      if (other.comes_before(best)) best = other;
    }
    last = best;
    if (Group::lane() == 0) ids[j] = best.expert;
  }
  Group::sync();
}

template <class Group, class T>
__global__ void router_topk_forward_kernel(RouterForwardArgs args) {
  follow_preceding_kernel();
  extern __shared__ double shared_sums[];  // [groups, E + 1]
  const int num_experts = static_cast<int>(args.logits.cols), top_k = static_cast<int>(args.top_k);
  const int groups = blockDim.x / Group::kSize, size = num_experts + 1;
  const bool is_sigmoid = args.score == RouterScore::sigmoid;
  double* const sums = shared_sums + threadIdx.x / Group::kSize * size;
  for (int e = Group::lane(); e < size; e += Group::kSize) sums[e] = 0;
  Group::sync();

  const std::int64_t begin = std::int64_t{blockIdx.x} * kTokens;
  const std::int64_t end = std::min(begin + kTokens, args.logits.rows);
  for (std::int64_t t = begin + threadIdx.x / Group::kSize; t < end; t += groups) {
    const T* const logits = static_cast<const T*>(args.logits.data) + t * args.logits.stride;
    T* const gates = static_cast<T*>(args.gates) + t * top_k;
    std::int32_t* const ids = args.expert_ids + t * top_k;
    const auto key = [&](int e) {
      if (!is_sigmoid) return logits[e];
      return sigmoid_of(logits[e]) + (args.selection_bias ? T(args.selection_bias[e]) : T(0));
    };
    if (!args.is_chosen) select_top_k<Group, T>(key, num_experts, top_k, ids);

    const auto logit = [&](int e) { return logits[e]; };
    const auto chosen_logit = [&](int j) { return logits[checked_index(ids[j], num_experts)]; };
    const Weights<Group, T> all(args.score, num_experts, logit);
    if (gates_are_renormalized(args.score)) {
      const Weights<Group, T> chosen(args.score, top_k, chosen_logit);
      for (int j = Group::lane(); j < top_k; j += Group::kSize)
        gates[j] = chosen(chosen_logit(j)) / chosen.sum;
    } else {
      for (int j = Group::lane(); j < top_k; j += Group::kSize)
        gates[j] = all(chosen_logit(j)) / all.sum;
    }
    for (int e = Group::lane(); e < num_experts; e += Group::kSize)
      sums[e] += all(logits[e]) / all.sum;
    const double lse =
        is_sigmoid ? log_sum_exp(Weights<Group, T>(RouterScore::softmax_topk, num_experts, logit))
                   : log_sum_exp(all);
    if (Group::lane() == 0) sums[num_experts] += lse * lse;
  }
  __syncthreads();
  double* const block_sums = static_cast<double*>(args.workspace) + std::int64_t{blockIdx.x} * size;
  for (int e = threadIdx.x; e < size; e += blockDim.x) {
    double sum = 0;
    for (int group = 0; group < groups; ++group) sum += shared_sums[group * size + e];
    block_sums[e] = sum;
  }
}

/// A warp adds one column of the partial sums, in an order that depends only on the number of
/// blocks.
__global__ void __launch_bounds__(kWarp)
    router_sums_kernel(const double* block_sums, std::int64_t num_blocks, double* sums) {
  follow_preceding_kernel();
  double sum = 0;
  for (std::int64_t block = lane_id(); block < num_blocks; block += kWarp)
    sum += block_sums[block * gridDim.x + blockIdx.x];
  sum = reduce_warp(sum, Sum{});
  if (lane_id() == 0) sums[blockIdx.x] = sum;
}

template <class T>
__global__ void __launch_bounds__(kWarp) router_losses_kernel(RouterLossesArgs args) {
  follow_preceding_kernel();
  const auto num_experts = static_cast<int>(args.num_experts);
  const auto tokens = static_cast<double>(args.num_tokens);
  double balance = 0, z = 0;
  if (args.num_tokens > 0) {
    const double rows = args.expert_offsets[num_experts];
    for (int e = lane_id(); e < num_experts; e += kWarp)
      balance += (args.expert_offsets[e + 1] - args.expert_offsets[e]) / rows * args.sums[e];
    balance = reduce_warp(balance, Sum{}) * num_experts / tokens;
    z = args.sums[num_experts] / tokens;
  }
  if (lane_id() > 0) return;
  *static_cast<T*>(args.balance_loss) = T(balance);
  *static_cast<T*>(args.z_loss) = T(z);
}

template <class T>
__device__ double value_or_zero(const void* scalar) {
  return scalar ? static_cast<double>(*static_cast<const T*>(scalar)) : 0.0;
}

/// One group per token; the same formulas as in kernels/cpu/routing.cpp, which derives them.
template <class Group, class T>
__global__ void __launch_bounds__(kMaxWarps* kWarp, 1)
    router_backward_kernel(RouterBackwardArgs args) {
  follow_preceding_kernel();
  const std::int64_t t =
      std::int64_t{blockIdx.x} * (blockDim.x / Group::kSize) + threadIdx.x / Group::kSize;
  const auto num_tokens = static_cast<double>(args.logits.rows);
  if (t >= args.logits.rows) return;
  const int num_experts = static_cast<int>(args.logits.cols), top_k = static_cast<int>(args.top_k);
  const double num_rows = num_tokens * top_k;
  const T balance_scale =
      T(value_or_zero<T>(args.dbalance_loss) * num_experts / (num_rows * num_tokens));
  const T z_scale = T(2 * value_or_zero<T>(args.dz_loss) / num_tokens);

  const T* const logits = static_cast<const T*>(args.logits.data) + t * args.logits.stride;
  const std::int32_t* const ids = args.expert_ids + t * top_k;
  const T* const gates = static_cast<const T*>(args.gates) + t * top_k;
  const T* const dgates = args.dgates ? static_cast<const T*>(args.dgates) + t * top_k : nullptr;
  T* const dlogits = static_cast<T*>(args.dlogits.data) + t * args.dlogits.stride;
  const bool is_sigmoid = args.score == RouterScore::sigmoid;

  const auto logit = [&](int e) { return logits[e]; };
  const auto dq = [&](int e) {
    return balance_scale * T(args.expert_offsets[e + 1] - args.expert_offsets[e]);
  };
  const Weights<Group, T> all(args.score, num_experts, logit);
  const T inverse = 1 / all.sum;
  T balance_dot = 0, gate_dot = 0;
  for (int e = Group::lane(); e < num_experts; e += Group::kSize)
    balance_dot += all(logits[e]) * inverse * dq(e);
  balance_dot = Group::reduce(balance_dot, Sum{});
  if (dgates)
    for (int j = Group::lane(); j < top_k; j += Group::kSize) gate_dot += gates[j] * dgates[j];
  gate_dot = Group::reduce(gate_dot, Sum{});
  const bool renormalized = gates_are_renormalized(args.score);
  const T dot_of_all = renormalized ? balance_dot : balance_dot + gate_dot;
  const T dot_of_chosen = renormalized ? gate_dot : T(0);
  const Weights<Group, T> softmax =
      is_sigmoid ? Weights<Group, T>(RouterScore::softmax_topk, num_experts, logit) : all;
  const T z_factor = z_scale * log_sum_exp(softmax);
  const T z_share = z_factor / softmax.sum;

  const T z_of_all = is_sigmoid ? T(0) : z_factor;
  for (int e = Group::lane(); e < num_experts; e += Group::kSize) {
    const T q = all(logits[e]) * inverse;
    T dz = q * (dq(e) - dot_of_all + z_of_all);
    if (dgates)
      for (int j = 0; j < top_k; ++j)
        if (ids[j] == e) dz += gates[j] * (dgates[j] - dot_of_chosen);
    if (is_sigmoid) {
      dz *= sigmoid_of(-logits[e]);
      if (z_scale != 0) dz += z_share * exp(logits[e] - softmax.maximum);
    }
    dlogits[e] = dz;
  }
}

constexpr int kMaxLayers = 64;
struct Layers {
  LayerRouting layer[kMaxLayers];
};

/// One thread block per layer.
template <class T>
__global__ void __launch_bounds__(128)
    add_routing_kernel(__grid_constant__ const Layers layers, int num_experts, double* totals) {
  const LayerRouting& layer = layers.layer[blockIdx.x];
  totals += std::int64_t{blockIdx.x} * (num_experts + 2);
  for (int e = threadIdx.x; e < num_experts; e += blockDim.x)
    totals[e] += layer.expert_offsets[e + 1] - layer.expert_offsets[e];
  if (threadIdx.x > 0) return;
  totals[num_experts] += *static_cast<const T*>(layer.balance_loss);
  totals[num_experts + 1] += *static_cast<const T*>(layer.z_loss);
}

int forward_warps(std::int64_t num_experts) {
  return warps_for("router_forward", (num_experts + 1) * std::int64_t{sizeof(double)}, num_experts);
}

/// Calls f with the threads that share a token, of type Warp or Thread.
template <class F>
void dispatch_group(std::int64_t num_experts, F&& f) {
  num_experts <= kMaxExpertsOfThread ? f(Thread{}) : f(Warp{});
}

}  // namespace

std::int64_t router_forward_workspace_bytes(const Launch&, const RouterForwardArgs& args) {
  return ceil_div(args.logits.rows, kTokens) * (args.logits.cols + 1) *
         std::int64_t{sizeof(double)};
}

void router_forward(const Launch& launch, const RouterForwardArgs& args) {
  const std::int64_t blocks = ceil_div(args.logits.rows, kTokens), size = args.logits.cols + 1;
  dispatch_logits(args.logits.dtype, [&](auto type) {
    if (blocks == 0) return;
    dispatch_group(args.logits.cols, [&](auto group) {
      using Group = decltype(group);
      const int groups = Group::kSize == 1 ? kTokens : forward_warps(args.logits.cols);
      launch_following<router_topk_forward_kernel<Group, decltype(type)>>(
          launch,
          {static_cast<unsigned>(blocks), groups * Group::kSize, groups * size * sizeof(double)},
          args);
    });
  });
  launch_following<router_sums_kernel>(launch, {static_cast<unsigned>(size), kWarp},
                                       static_cast<const double*>(args.workspace), blocks,
                                       args.sums);
}

void router_losses(const Launch& launch, const RouterLossesArgs& args) {
  dispatch_logits(args.dtype, [&](auto type) {
    launch_following<router_losses_kernel<decltype(type)>>(launch, {1, kWarp}, args);
  });
}

void router_backward(const Launch& launch, const RouterBackwardArgs& args) {
  if (args.logits.rows == 0) return;
  dispatch_logits(args.logits.dtype, [&](auto type) {
    dispatch_group(args.logits.cols, [&](auto group) {
      using Group = decltype(group);
      constexpr int kBlock = Group::kSize == 1 ? 64 : kMaxWarps * kWarp;
      launch_following<router_backward_kernel<Group, decltype(type)>>(
          launch,
          {static_cast<unsigned>(ceil_div(args.logits.rows, kBlock / Group::kSize)), kBlock}, args);
    });
  });
}

void add_routing(const Launch& launch, const AddRoutingArgs& args) {
  for (std::size_t done = 0; done < args.layers.size(); done += kMaxLayers) {
    const auto part = args.layers.subspan(done).first(
        std::min<std::size_t>(kMaxLayers, args.layers.size() - done));
    Layers layers{};
    std::copy(part.begin(), part.end(), layers.layer);
    double* const totals = args.totals + static_cast<std::int64_t>(done) * (args.num_experts + 2);
    dispatch_logits(args.loss_dtype, [&](auto type) {
      add_routing_kernel<decltype(type)>
          <<<static_cast<unsigned>(part.size()), 128, 0, stream_of(launch)>>>(
              layers, static_cast<int>(args.num_experts), totals);
    });
    check_launch("add_routing");
  }
}

}  // namespace smoe::kernels::cuda
