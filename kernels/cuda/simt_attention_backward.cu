// The backward of the SIMT attention, from the logsumexp of the forward. A thread block owns its
// output and accumulates in a fixed order: a tile of queries for dQ, a tile of keys over all query
// heads that read it for dK and dV.
#include <cmath>

#include "kernels/cuda/simt_attention.cuh"
#include "kernels/cuda/simt_attention.h"

namespace smoe::kernels::cuda {
namespace {

using namespace attention_tiles;

// The workspace of the backward: delta = rowsum(dO O) per query, and dK and dV [T, 2 Hkv C], which
// cannot be written to dkv yet because it may alias kv.
struct Scratch {
  float* delta;
  void* dkv;
  std::int64_t bytes;

  Scratch(const AttentionBackwardArgs& args) {
    const AttentionShape& shape = args.shape;
    const std::int64_t delta_bytes = ceil_div(shape.num_tokens() * shape.num_heads * 4, 256) * 256;
    delta = static_cast<float*>(args.workspace);
    dkv = static_cast<std::byte*>(args.workspace) + delta_bytes;
    bytes = delta_bytes + shape.num_tokens() * shape.kv_width() * size_of(args.kv.dtype);
  }
};

// One warp per (token, head).
template <class T>
__global__ void __launch_bounds__(kThreads)
    attention_delta_kernel(AttentionBackwardArgs args, float* delta) {
  const AttentionShape& shape = args.shape;
  const std::int64_t pair =
      (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) / kWarp;  // token * H + head
  if (pair >= shape.num_tokens() * shape.num_heads) return;
  const std::int64_t token = pair / shape.num_heads, head = pair % shape.num_heads;
  const T* output = row_of<T>(args.output, token) + head * shape.head_dim;
  const T* doutput = row_of<T>(args.doutput, token) + head * shape.head_dim;
  float sum = 0;
  for (std::int64_t c = threadIdx.x % kWarp; c < shape.head_dim; c += kWarp)
    sum += to_f32(output[c]) * to_f32(doutput[c]);
  sum = reduce_warp(sum, Sum{});
  if (threadIdx.x % kWarp == 0)
    delta[first_query_number(shape, token / shape.seq_len, head) + token % shape.seq_len] = sum;
}

// The probability of a (query, key) pair and the gradient of its scaled score, both rounded to T;
// zero if the query does not attend to the key.
struct Pair {
  float p, ds;
};
template <class T>
__device__ Pair pair_backward(const float* q, const float* k, const float* v, const float* doutput,
                              int width, bool is_visible, float scale, float logsumexp,
                              float delta) {
  if (!is_visible) return {0, 0};
  const float p = expf(scale * dot(q, k, width) - logsumexp);
  return {rounded<T>(p), rounded<T>(p * (dot(doutput, v, width) - delta))};
}

// Computes dQ of one tile of queries of one head.
template <class T>
__global__ void __launch_bounds__(kThreads)
    attention_dq_backward_kernel(AttentionBackwardArgs args, const float* deltas) {
  extern __shared__ float shared[];
  __shared__ float ds[kTile][kTile + 1];
  const AttentionShape& shape = args.shape;
  const int width = static_cast<int>(shape.head_dim), pitch = pitch_of(width);
  const Tile q{shared, pitch}, doutput{shared + kTile * pitch, pitch};
  const Tile k{shared + 2 * kTile * pitch, pitch}, v{shared + 3 * kTile * pitch, pitch};
  const Head head(shape, blockIdx.z, blockIdx.y);
  const std::int64_t q0 = (gridDim.x - 1 - blockIdx.x) * std::int64_t{kTile};
  const int row = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  const bool exists = q0 + row < shape.seq_len;
  const float scale = 1 / sqrtf(static_cast<float>(width));
  const std::int64_t element = head.first_element + q0 + row;
  const float logsumexp = exists ? static_cast<const float*>(args.logsumexp)[element] : 0;
  const float delta = exists ? deltas[element] : 0;
  load_tile<T>({args.q, head.first_row, shape.seq_len, head.q}, q0, width, q);
  load_tile<T>({args.doutput, head.first_row, shape.seq_len, head.q}, q0, width, doutput);
  float sum[kColumnsPerLane] = {};
  for (std::int64_t k0 = 0; k0 <= q0; k0 += kTile) {
    __syncthreads();
    load_tile<T>({args.kv, head.first_row, shape.seq_len, head.k}, k0, width, k);
    load_tile<T>({args.kv, head.first_row, shape.seq_len, head.v}, k0, width, v);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kKeysPerLane; ++j) {
      const int key = lane + j * kLanes;
      ds[row][key] = pair_backward<T>(q[row], k[key], v[key], doutput[row], width,
                                      exists && k0 + key <= q0 + row, scale, logsumexp, delta)
                         .ds;
    }
    __syncwarp();
    add_weighted_rows(ds[row], k, width, sum);
  }
  // No other thread block reads these queries, so dq may alias q.
  if (exists) store_row(sum, scale, row_of<T>(args.dq, head.first_row + q0 + row) + head.q, width);
}

// Computes dK and dV of one tile of keys of one key head, over all queries of its query heads. Here
// `row` is a key, and the pairs of a lane are with queries.
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    attention_dkv_backward_kernel(AttentionBackwardArgs args, const float* deltas, T* dkv) {
  extern __shared__ float shared[];
  __shared__ float p[kTile][kTile + 1], ds[kTile][kTile + 1];
  __shared__ float logsumexp[kTile], delta[kTile];
  const AttentionShape& shape = args.shape;
  const int width = static_cast<int>(shape.head_dim), pitch = pitch_of(width);
  const Tile q{shared, pitch}, doutput{shared + kTile * pitch, pitch};
  const Tile k{shared + 2 * kTile * pitch, pitch}, v{shared + 3 * kTile * pitch, pitch};
  const std::int64_t kv_head = blockIdx.y;
  const std::int64_t k0 = blockIdx.x * std::int64_t{kTile};
  const int row = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  const float scale = 1 / sqrtf(static_cast<float>(width));
  const Head first(shape, blockIdx.z, shape.head_of(kv_head, 0));
  load_tile<T>({args.kv, first.first_row, shape.seq_len, first.k}, k0, width, k);
  load_tile<T>({args.kv, first.first_row, shape.seq_len, first.v}, k0, width, v);
  float dk[kColumnsPerLane] = {}, dv[kColumnsPerLane] = {};
  for (std::int64_t i = 0; i < shape.group_size(); ++i) {
    const Head head(shape, blockIdx.z, shape.head_of(kv_head, i));
    for (std::int64_t q0 = k0; q0 < shape.seq_len; q0 += kTile) {
      __syncthreads();
      load_tile<T>({args.q, head.first_row, shape.seq_len, head.q}, q0, width, q);
      load_tile<T>({args.doutput, head.first_row, shape.seq_len, head.q}, q0, width, doutput);
      if (threadIdx.x < kTile && q0 + threadIdx.x < shape.seq_len) {
        const std::int64_t element = head.first_element + q0 + threadIdx.x;
        logsumexp[threadIdx.x] = static_cast<const float*>(args.logsumexp)[element];
        delta[threadIdx.x] = deltas[element];
      }
      __syncthreads();
#pragma unroll
      for (int j = 0; j < kKeysPerLane; ++j) {
        const int query = lane + j * kLanes;
        const bool is_visible = q0 + query < shape.seq_len && k0 + row <= q0 + query;
        const Pair pair = pair_backward<T>(q[query], k[row], v[row], doutput[query], width,
                                           is_visible, scale, logsumexp[query], delta[query]);
        p[row][query] = pair.p;
        ds[row][query] = pair.ds;
      }
      __syncwarp();
      add_weighted_rows(p[row], doutput, width, dv);
      add_weighted_rows(ds[row], q, width, dk);
    }
  }
  if (k0 + row >= shape.seq_len) return;
  T* target = dkv + (first.first_row + k0 + row) * 2 * shape.num_kv_heads * width + kv_head * width;
  store_row(dk, scale, target, width);
  store_row(dv, 1, target + shape.num_kv_heads * width, width);
}

}  // namespace

void simt_attention_backward(const Launch& launch, const AttentionBackwardArgs& args) {
  const AttentionShape& shape = args.shape;
  check_head_dim("attention_backward", shape);
  dispatch_storage("attention_backward", args.q.dtype, [&](auto type) {
    using T = decltype(type);
    if (args.q.rows == 0) return;
    const Scratch scratch(args);
    const cudaStream_t stream = stream_of(launch);
    const std::int64_t num_pairs = shape.num_tokens() * shape.num_heads;
    attention_delta_kernel<T>
        <<<static_cast<unsigned>(ceil_div(num_pairs, kThreads / kWarp)), kThreads, 0, stream>>>(
            args, scratch.delta);
    check_launch("attention_backward");
    attention_dkv_backward_kernel<T>
        <<<grid_of(shape, shape.num_kv_heads), kThreads,
           allow_shared(attention_dkv_backward_kernel<T>, 4 * tile_bytes(shape)), stream>>>(
            args, scratch.delta, static_cast<T*>(scratch.dkv));
    check_launch("attention_backward");
    attention_dq_backward_kernel<T>
        <<<grid_of(shape, shape.num_heads), kThreads,
           allow_shared(attention_dq_backward_kernel<T>, 4 * tile_bytes(shape)), stream>>>(
            args, scratch.delta);
    check_launch("attention_backward");
    const std::int64_t width = shape.kv_width();
    copy_matrix(launch, {scratch.dkv, args.dkv.dtype, shape.num_tokens(), width, width}, args.dkv);
  });
}

std::int64_t simt_attention_backward_workspace_bytes(const AttentionBackwardArgs& args) {
  return Scratch(args).bytes;
}

}  // namespace smoe::kernels::cuda
