// Combine: in the forward a thread accumulates a few columns of a token's rows in slot order; in
// the backward of the gates a warp computes the dot product of one routed row and its token's
// gradient.
#include "kernels/combine.h"

#include "kernels/cuda/device/checked_index.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/row_pass.h"

namespace smoe::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// The index of the routed row of each (token, slot) pair; null if it is the pair's own.
const std::int32_t* row_of_pair(const RoutingView& routing, RowLayout layout) {
  return layout == RowLayout::grouped ? routing.grouped_rows : nullptr;
}

template <int N, class T>
__global__ void __launch_bounds__(kThreads)
    combine_forward_kernel(ConstMatrix y, const std::int32_t* rows, const float* gates, int top_k,
                           Matrix out) {
  const std::int64_t chunks = out.cols / N;
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= out.rows * chunks) return;
  const std::int64_t token = i / chunks, col = i % chunks * N;
  float sum[N] = {};
#pragma unroll 4
  for (int j = 0; j < top_k; ++j) {
    const std::int64_t pair = token * top_k + j;
    const std::int64_t row = rows ? checked_index(rows[pair], y.rows) : pair;
    const float gate = gates ? gates[pair] : 1.0f;
    float values[N];
    load(static_cast<const T*>(y.data) + row * y.stride + col, values);
#pragma unroll
    for (int n = 0; n < N; ++n) sum[n] = fmaf(gate, values[n], sum[n]);
  }
  store(static_cast<T*>(out.data) + token * out.stride + col, sum);
}

template <int N, class T>
__global__ void __launch_bounds__(kThreads)
    combine_gates_backward_kernel(ConstMatrix y, const std::int32_t* rows, ConstMatrix dout,
                                  int top_k, float* dgates) {
  const std::int64_t pair = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) / kWarp;
  if (pair >= dout.rows * top_k) return;
  const std::int64_t row = rows ? checked_index(rows[pair], y.rows) : pair;
  const T* const a = static_cast<const T*>(y.data) + row * y.stride;
  const T* const b = static_cast<const T*>(dout.data) + pair / top_k * dout.stride;
  float sum = 0;
  for (std::int64_t col = threadIdx.x % kWarp * N; col < dout.cols; col += kWarp * N) {
    float x[N], z[N];
    load(a + col, x);
    load(b + col, z);
#pragma unroll
    for (int n = 0; n < N; ++n) sum = fmaf(x[n], z[n], sum);
  }
  sum = reduce_warp(sum, Sum{});
  if (threadIdx.x % kWarp == 0) dgates[pair] = sum;
}

unsigned blocks_for(std::int64_t threads) {
  return static_cast<unsigned>(ceil_div(threads, kThreads));
}

RowPass pass_of(const CombineBackwardArgs& args) {
  return {.routing = args.routing,
          .rows = {args.dout, RowLayout::scattered},
          .gates = static_cast<const float*>(args.gates),
          .gated = args.dy,
          .sums = args.dbias,
          .sums_dtype = args.dbias_dtype,
          .beta = args.bias_beta,
          .others = args.y,
          .products = static_cast<float*>(args.dgates),
          .workspace = args.workspace};
}

}  // namespace

void combine(const Launch& launch, const CombineArgs& args) {
  if (args.out.rows * args.out.cols == 0) return;
  dispatch_storage("combine", args.out.dtype, [&](auto type) {
    dispatch_width(fits_width(args.y.rows) && fits_width(args.out), [&](auto width) {
      combine_forward_kernel<width, decltype(type)>
          <<<blocks_for(args.out.rows * args.out.cols / width), kThreads, 0, stream_of(launch)>>>(
              args.y.rows, row_of_pair(args.routing, args.y.layout),
              static_cast<const float*>(args.gates), static_cast<int>(args.routing.top_k),
              args.out);
    });
  });
  check_launch("combine");
}

void combine_gates_backward(const Launch& launch, const CombineGatesBackwardArgs& args) {
  if (args.routing.num_rows() == 0) return;
  dispatch_storage("combine_gates_backward", args.dout.dtype, [&](auto type) {
    dispatch_width(fits_width(args.y.rows) && fits_width(args.dout), [&](auto width) {
      combine_gates_backward_kernel<width, decltype(type)>
          <<<blocks_for(args.routing.num_rows() * kWarp), kThreads, 0, stream_of(launch)>>>(
              args.y.rows, row_of_pair(args.routing, args.y.layout), args.dout,
              static_cast<int>(args.routing.top_k), static_cast<float*>(args.dgates));
    });
  });
  check_launch("combine_gates_backward");
}

std::int64_t combine_backward_workspace_bytes(const Launch&, const CombineBackwardArgs& args) {
  return row_pass_workspace_bytes(pass_of(args));
}

void combine_backward(const Launch& launch, const CombineBackwardArgs& args) {
  pass_over_rows(launch, "combine_backward", pass_of(args));
}

}  // namespace smoe::kernels::cuda
