#include "kernels/combine.h"

#include "kernels/cpu/thread_pool.h"

namespace smoe::kernels {
namespace {

constexpr std::int64_t kBlockTokens = 32;

// Where the routed row of each (token, slot) pair lies.
struct PairIndex {
  const std::int32_t* grouped_rows;  // null for scattered rows
  std::int64_t operator()(std::int64_t pair) const {
    return grouped_rows ? grouped_rows[pair] : pair;
  }
};

PairIndex pair_index(const RoutingView& routing, RowLayout layout) {
  return {layout == RowLayout::grouped ? routing.grouped_rows : nullptr};
}

// out[begin, end) of one token. Chunks of columns keep the sums in registers' reach.
template <class T, class Acc>
void combine_token(const CombineArgs& args, const PairIndex& index, std::int64_t token) {
  constexpr std::int64_t kChunk = 256;
  const std::int64_t top_k = args.routing.top_k;
  const Acc* gates = static_cast<const Acc*>(args.gates);
  T* out = args.out.row<T>(token);
  for (std::int64_t begin = 0; begin < args.out.cols; begin += kChunk) {
    const std::int64_t n = std::min(kChunk, args.out.cols - begin);
    Acc sum[kChunk] = {};
    for (std::int64_t pair = token * top_k; pair < (token + 1) * top_k; ++pair) {
      const T* y = args.y.rows.row<T>(index(pair)) + begin;
      const Acc gate = gates ? gates[pair] : Acc{1};
      for (std::int64_t i = 0; i < n; ++i) sum[i] += gate * Acc(y[i]);
    }
    for (std::int64_t i = 0; i < n; ++i) out[begin + i] = T(sum[i]);
  }
}

}  // namespace

void combine(const Launch&, const CombineArgs& args) {
  const PairIndex index = pair_index(args.routing, args.y.layout);
  dispatch_floating(args.out.dtype, [&](auto type) {
    using T = decltype(type);
    cpu::parallel_blocks(args.out.rows, kBlockTokens,
                         [&](std::int64_t begin, std::int64_t end, int) {
                           for (std::int64_t t = begin; t < end; ++t)
                             combine_token<T, accumulation_t<T>>(args, index, t);
                         });
  });
}

void combine_gates_backward(const Launch&, const CombineGatesBackwardArgs& args) {
  const PairIndex index = pair_index(args.routing, args.y.layout);
  const std::int64_t top_k = args.routing.top_k;
  dispatch_floating(args.dout.dtype, [&](auto type) {
    using T = decltype(type);
    using Acc = accumulation_t<T>;
    Acc* dgates = static_cast<Acc*>(args.dgates);
    const auto pairs = [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t pair = begin; pair < end; ++pair) {
        const T* y = args.y.rows.row<T>(index(pair));
        const T* dout = args.dout.row<T>(pair / top_k);
        Acc sum = 0;
#pragma omp simd reduction(+ : sum)
        for (std::int64_t i = 0; i < args.dout.cols; ++i) sum += Acc(y[i]) * Acc(dout[i]);
        dgates[pair] = sum;
      }
    };
    cpu::parallel_blocks(args.routing.num_rows(), kBlockTokens, pairs);
  });
}

}  // namespace smoe::kernels
