#include "kernels/combine.h"

#include "kernels/checked_index.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/routed_rows.h"
#include "kernels/cpu/threads.h"

namespace smoe::kernels::cpu {
namespace {

constexpr std::int64_t kBlockTokens = 32;

// The index of the routed row of each (token, slot) pair.
struct PairIndex {
  const std::int32_t* grouped_rows;  // null for scattered rows
  std::int64_t num_rows;
  std::int64_t operator()(std::int64_t pair) const {
    return grouped_rows ? checked_index(grouped_rows[pair], num_rows) : pair;
  }
};

PairIndex pair_index(const RoutingView& routing, RowLayout layout) {
  return {layout == RowLayout::grouped ? routing.grouped_rows : nullptr, routing.num_rows()};
}

template <class T>
void combine_token(const CombineArgs& args, const PairIndex& index, std::int64_t token) {
  const std::int64_t first = token * args.routing.top_k, last = first + args.routing.top_k;
  const auto* gates = static_cast<const accumulation_t<T>*>(args.gates);
  T* out = args.out.row<T>(token);
  for_lanes<T>(args.out.cols, [&](std::int64_t i, const auto& lanes) {
    lanes_t<T> sum{};
    for (std::int64_t pair = first; pair < last; ++pair) {
      const auto y = lanes.load(args.y.rows.row<T>(index(pair)) + i);
      sum += gates ? gates[pair] * y : y;
    }
    lanes.store(out + i, sum);
  });
}

template <class T>
accumulation_t<T> dot_rows(const T* a, const T* b, std::int64_t cols) {
  lanes_t<T> sum{};
  for_lanes<T>(cols, [&](std::int64_t i, const auto& lanes) {
    sum += lanes.load(a + i) * lanes.load(b + i);
  });
  return sum_lanes(sum);
}

}  // namespace

void combine(const Launch&, const CombineArgs& args) {
  const PairIndex index = pair_index(args.routing, args.y.layout);
  dispatch_floating(args.out.dtype, [&](auto type) {
    using T = decltype(type);
    parallel_blocks(args.out.rows, kBlockTokens, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t t = begin; t < end; ++t) combine_token<T>(args, index, t);
    });
  });
}

void combine_gates_backward(const Launch&, const CombineGatesBackwardArgs& args) {
  const PairIndex index = pair_index(args.routing, args.y.layout);
  const std::int64_t top_k = args.routing.top_k;
  dispatch_floating(args.dout.dtype, [&](auto type) {
    using T = decltype(type);
    auto* dgates = static_cast<accumulation_t<T>*>(args.dgates);
    const auto pairs = [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t pair = begin; pair < end; ++pair) {
        const T* y = args.y.rows.row<T>(index(pair));
        dgates[pair] = dot_rows(y, args.dout.row<T>(pair / top_k), args.dout.cols);
      }
    };
    parallel_blocks(args.routing.num_rows(), kBlockTokens, pairs);
  });
}

std::int64_t combine_backward_workspace_bytes(const Launch&, const CombineBackwardArgs&) {
  return 0;
}

void combine_backward(const Launch&, const CombineBackwardArgs& args) {
  const RoutingView& routing = args.routing;
  const std::int64_t cols = args.dout.cols;
  dispatch_floating(args.dout.dtype, [&](auto type) {
    using T = decltype(type);
    using Acc = accumulation_t<T>;
    auto* dgates = static_cast<Acc*>(args.dgates);
    parallel_blocks(routing.num_rows(), kBlockTokens,
                    [&](std::int64_t begin, std::int64_t end, int) {
                      for (std::int64_t p = begin; p < end; ++p) {
                        const std::int64_t pair = scattered_id(routing, p);
                        const T* dout = args.dout.row<T>(pair / routing.top_k);
                        if (dgates) dgates[pair] = dot_rows(args.y.row<T>(p), dout, cols);
                        const Acc gate = static_cast<const Acc*>(args.gates)[pair];
                        T* dy = args.dy.row<T>(p);
                        for_lanes<T>(cols, [&](std::int64_t i, const auto& lanes) {
                          lanes.store(dy + i, gate * lanes.load(dout + i));
                        });
                      }
                    });
    if (args.dbias)
      sum_rows_by_expert<Acc>(routing, {args.dy, RowLayout::grouped}, args.dbias, args.dbias_dtype,
                              args.bias_beta);
  });
}

}  // namespace smoe::kernels::cpu
