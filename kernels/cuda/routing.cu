// Routing on a GPU: one warp per token, whose lanes each process every 32nd expert, or one thread
// per token if experts are few. Sums over tokens are partial sums of fixed blocks, added in order;
// the counting sort only adds integers. No launch configuration depends on the results of an
// earlier kernel.
#include "kernels/routing.h"

#include "kernels/cuda/device/checked_index.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {
namespace {

constexpr int kMaxWarps = 8;             // per thread block
constexpr int kTokens = 64;              // per thread block of the router kernels
constexpr int kRowsOfWarp = 256;         // rows per warp of the counting sort
constexpr int kSharedBytes = 48 * 1024;  // available on every device

/// The number of warps per thread block if each needs `bytes` of shared memory.
int warps_for(const char* op, std::int64_t bytes, std::int64_t num_experts) {
  SMOE_CHECK(bytes <= kSharedBytes, op, ": too many experts for a GPU's shared memory; got ",
             num_experts);
  return static_cast<int>(
      std::min<std::int64_t>(kMaxWarps, kSharedBytes / std::max<std::int64_t>(bytes, 1)));
}

template <class F>
void dispatch_logits(DType dtype, F&& f) {
  SMOE_CHECK(dtype == DType::f32 || dtype == DType::f64, "routing: logits must be f32 or f64; got ",
             name_of(dtype));
  dtype == DType::f32 ? f(float{}) : f(double{});
}

__host__ __device__ constexpr bool gates_are_renormalized(RouterScore score) {
  return score != RouterScore::softmax_topk;
}

__device__ int lane_id() {
  return threadIdx.x % kWarp;
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
  double sum = 0;
  for (std::int64_t block = lane_id(); block < num_blocks; block += kWarp)
    sum += block_sums[block * gridDim.x + blockIdx.x];
  sum = reduce_warp(sum, Sum{});
  if (lane_id() == 0) sums[blockIdx.x] = sum;
}

__global__ void group_by_expert_count_kernel(GroupByExpertArgs args) {
  extern __shared__ std::int32_t shared_counts[];  // [E]
  const auto num_experts = static_cast<int>(args.num_experts);
  for (int e = threadIdx.x; e < num_experts; e += blockDim.x) shared_counts[e] = 0;
  __syncthreads();
  const std::int64_t rows = std::int64_t{blockDim.x} / kWarp * kRowsOfWarp;
  const std::int64_t begin = blockIdx.x * rows;
  const std::int64_t end = std::min(begin + rows, args.num_rows);
  for (std::int64_t i = begin + threadIdx.x; i < end; i += blockDim.x)
    atomicAdd(&shared_counts[checked_index(args.expert_ids[i], num_experts)], 1);
  __syncthreads();
  auto* const counts = static_cast<std::int32_t*>(args.workspace) + blockIdx.x * num_experts;
  for (int e = threadIdx.x; e < num_experts; e += blockDim.x) counts[e] = shared_counts[e];
}

/// The inclusive prefix sum of x over the lanes of a warp.
__device__ std::int32_t scan_warp(std::int32_t x) {
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const std::int32_t before = __shfl_up_sync(~0u, x, distance);
    if (lane_id() >= distance) x += before;
  }
  return x;
}

/// A warp replaces one expert's counts per block by their exclusive prefix sum over the blocks, and
/// writes the total to the next expert's offset.
__global__ void __launch_bounds__(kWarp)
    group_by_expert_scan_blocks_kernel(GroupByExpertArgs args, int num_blocks) {
  auto* const counts = static_cast<std::int32_t*>(args.workspace) + blockIdx.x;
  std::int32_t before = 0;
  for (int first = 0; first < num_blocks; first += kWarp) {
    const int block = first + lane_id();
    const std::int64_t at = block * args.num_experts;
    const std::int32_t count = block < num_blocks ? counts[at] : 0;
    const std::int32_t sum = scan_warp(count);
    if (block < num_blocks) counts[at] = before + sum - count;
    before += __shfl_sync(~0u, sum, kWarp - 1);
  }
  if (lane_id() == 0) args.expert_offsets[blockIdx.x + 1] = before;
}

/// Replaces rows per expert by offsets, in one warp.
__global__ void __launch_bounds__(kWarp)
    group_by_expert_scan_experts_kernel(std::int32_t* expert_offsets, int num_experts) {
  std::int32_t before = 0;
  for (int first = 0; first < num_experts; first += kWarp) {
    const int e = first + lane_id();
    const std::int32_t sum = scan_warp(e < num_experts ? expert_offsets[e + 1] : 0);
    if (e < num_experts) expert_offsets[e + 1] = before + sum;
    before += __shfl_sync(~0u, sum, kWarp - 1);
  }
  if (lane_id() == 0) expert_offsets[0] = 0;
}

/// Each warp counts its rows per expert, reads their first positions, and places 32 rows at a time:
/// a row after those of the same expert on lower lanes, so that the sort is stable.
__global__ void group_by_expert_scatter_kernel(GroupByExpertArgs args) {
  extern __shared__ std::int32_t next_rows[];  // [warps, E]
  const auto num_experts = static_cast<int>(args.num_experts);
  const int warps = blockDim.x / kWarp, warp = threadIdx.x / kWarp;
  std::int32_t* const next = next_rows + warp * num_experts;
  for (int e = lane_id(); e < num_experts; e += kWarp) next[e] = 0;
  __syncwarp();
  const std::int64_t begin = (std::int64_t{blockIdx.x} * warps + warp) * kRowsOfWarp;
  const std::int64_t end = std::min(begin + kRowsOfWarp, args.num_rows);
  for (std::int64_t i = begin + lane_id(); i < end; i += kWarp)
    atomicAdd(&next[checked_index(args.expert_ids[i], num_experts)], 1);
  __syncthreads();
  const auto* const rows_before =
      static_cast<const std::int32_t*>(args.workspace) + blockIdx.x * num_experts;
  for (int e = threadIdx.x; e < num_experts; e += blockDim.x) {
    std::int32_t row = args.expert_offsets[e] + rows_before[e];
    for (int w = 0; w < warps; ++w) {
      const std::int32_t count = next_rows[w * num_experts + e];
      next_rows[w * num_experts + e] = row;
      row += count;
    }
  }
  __syncthreads();
  for (std::int64_t first = begin; first < end; first += kWarp) {
    const std::int64_t i = first + lane_id();
    const unsigned active = __ballot_sync(~0u, i < end);
    if (i < end) {
      const std::int32_t expert = args.expert_ids[i];
      const unsigned same = __match_any_sync(active, expert);
      const int rank = __popc(same & ((1u << lane_id()) - 1));
      const std::int32_t row = next[expert] + rank;
      __syncwarp(active);
      if (rank == 0) next[expert] += __popc(same);
      args.sorted_scattered_ids[row] = static_cast<std::int32_t>(i);
      args.grouped_rows[i] = row;
    }
    __syncwarp();
  }
}

template <class T>
__global__ void __launch_bounds__(kWarp) router_losses_kernel(RouterLossesArgs args) {
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

int sort_warps(std::int64_t num_experts) {
  return warps_for("group_by_expert", num_experts * std::int64_t{sizeof(std::int32_t)},
                   num_experts);
}

std::int64_t sort_blocks(const GroupByExpertArgs& args) {
  return ceil_div(args.num_rows, sort_warps(args.num_experts) * kRowsOfWarp);
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
      router_topk_forward_kernel<Group, decltype(type)>
          <<<static_cast<unsigned>(blocks), groups * Group::kSize, groups * size * sizeof(double),
             stream_of(launch)>>>(args);
    });
  });
  router_sums_kernel<<<static_cast<unsigned>(size), kWarp, 0, stream_of(launch)>>>(
      static_cast<const double*>(args.workspace), blocks, args.sums);
  check_launch("router_forward");
}

std::int64_t group_by_expert_workspace_bytes(const Launch&, const GroupByExpertArgs& args) {
  return sort_blocks(args) * args.num_experts * std::int64_t{sizeof(std::int32_t)};
}

void group_by_expert(const Launch& launch, const GroupByExpertArgs& args) {
  const auto blocks = static_cast<unsigned>(sort_blocks(args));
  const auto num_experts = static_cast<unsigned>(args.num_experts);
  const int warps = sort_warps(args.num_experts);
  const std::size_t counts_bytes = args.num_experts * sizeof(std::int32_t);
  const cudaStream_t stream = stream_of(launch);
  if (blocks > 0)
    group_by_expert_count_kernel<<<blocks, warps * kWarp, counts_bytes, stream>>>(args);
  group_by_expert_scan_blocks_kernel<<<num_experts, kWarp, 0, stream>>>(args,
                                                                        static_cast<int>(blocks));
  group_by_expert_scan_experts_kernel<<<1, kWarp, 0, stream>>>(args.expert_offsets,
                                                               static_cast<int>(num_experts));
  if (blocks > 0)
    group_by_expert_scatter_kernel<<<blocks, warps * kWarp, warps * counts_bytes, stream>>>(args);
  check_launch("group_by_expert");
}

void router_losses(const Launch& launch, const RouterLossesArgs& args) {
  dispatch_logits(args.dtype, [&](auto type) {
    router_losses_kernel<decltype(type)><<<1, kWarp, 0, stream_of(launch)>>>(args);
  });
  check_launch("router_losses");
}

void router_backward(const Launch& launch, const RouterBackwardArgs& args) {
  if (args.logits.rows == 0) return;
  dispatch_logits(args.logits.dtype, [&](auto type) {
    dispatch_group(args.logits.cols, [&](auto group) {
      using Group = decltype(group);
      constexpr int kBlock = Group::kSize == 1 ? 64 : kMaxWarps * kWarp;
      router_backward_kernel<Group, decltype(type)>
          <<<static_cast<unsigned>(ceil_div(args.logits.rows, kBlock / Group::kSize)), kBlock, 0,
             stream_of(launch)>>>(args);
    });
  });
  check_launch("router_backward");
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
