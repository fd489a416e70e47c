// Attention in f32 arithmetic, for any head size: blocks of queries x keys through shared
// memory, with a running maximum and sum per query over the blocks of keys (arXiv:1805.02867,
// arXiv:2205.14135). A block of threads owns what it writes and adds in a fixed order: queries in
// the forward and for dQ, keys of all query heads that read them for dK and dV.
#include "kernels/cuda/simt_attention.h"

#include <cmath>

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {
namespace {

constexpr int kTile = 32;                    // queries, and keys, of a block
constexpr int kLanes = 8;                    // threads that share a row of a tile
constexpr int kThreads = kTile * kLanes;     // thread (row, lane)
constexpr int kKeysOfLane = kTile / kLanes;  // a lane's scores of a row: keys lane, lane + 8, ...
constexpr int kMostHeadDim = 256;
constexpr int kColumnsOfLane = kMostHeadDim / kLanes;

// One query head of one sequence: where its rows and columns are, and those of the key head it
// reads.
struct Head {
  std::int64_t first_row;     // of the sequence, in [T, ...]
  std::int64_t q, k, v;       // first columns in the packed projection
  std::int64_t first_number;  // first element in [B, H, S]

  __device__ Head(const AttentionShape& shape, std::int64_t sequence, std::int64_t head)
      : first_row(sequence * shape.seq_len),
        q(head * shape.head_dim),
        k((shape.num_heads + head / (shape.num_heads / shape.num_kv_heads)) * shape.head_dim),
        v(k + shape.num_kv_heads * shape.head_dim),
        first_number((sequence * shape.num_heads + head) * shape.seq_len) {}
};

// A tile [kTile, C] of f32 numbers in shared memory. The odd pitch keeps a column's rows in
// different banks.
struct Tile {
  float* data;
  int pitch;

  __device__ float* operator[](int row) const { return data + row * pitch; }
};
constexpr int pitch_of(std::int64_t head_dim) {
  return static_cast<int>(head_dim) + 1 + static_cast<int>(head_dim) % 2;
}
std::int64_t tile_bytes(const AttentionShape& shape) {
  return kTile * std::int64_t{pitch_of(shape.head_dim)} * 4;
}

// Rows of one sequence, in the columns of one head.
struct Rows {
  const ConstMatrix& matrix;
  std::int64_t first;   // row of the sequence
  std::int64_t count;   // rows of the sequence
  std::int64_t column;  // first column of the head
};

// tile = rows [begin, begin + kTile); those past the sequence's end are zero.
template <class T>
__device__ void load_tile(const Rows& rows, std::int64_t begin, int width, const Tile& tile) {
  for (int at = threadIdx.x; at < kTile * width; at += kThreads) {
    const int i = at / width, c = at % width;
    const bool exists = begin + i < rows.count;
    tile[i][c] =
        exists ? to_f32(row_of<T>(rows.matrix, rows.first + begin + i)[rows.column + c]) : 0.0f;
  }
}

// <a, b> over a row's columns.
__device__ inline float dot(const float* a, const float* b, int width) {
  float sum = 0;
  for (int c = 0; c < width; ++c) sum += a[c] * b[c];
  return sum;
}

// Sum or maximum over a row's lanes.
template <class Op>
__device__ float reduce_lanes(float x, Op op) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    x = op(x, __shfl_xor_sync(0xffffffffu, x, distance));
  return x;
}

template <class T>
__device__ float rounded(float x) {
  return to_f32(from_f32<T>(x));
}

// sum[i] += <weights[.], column lane + 8 i of rows>: one row of a product of tiles. The weights of
// a row were written by its own lanes.
__device__ inline void add_rows(const float* weights, const Tile& rows, int width,
                                float (&sum)[kColumnsOfLane]) {
  const int lane = threadIdx.x % kLanes;
  for (int j = 0; j < kTile; ++j) {
    const float weight = weights[j];
#pragma unroll
    for (int i = 0; i < kColumnsOfLane; ++i)
      if (const int c = lane + i * kLanes; c < width) sum[i] += weight * rows[j][c];
  }
}

template <class T>
__device__ void store_row(const float (&x)[kColumnsOfLane], float factor, T* target, int width) {
  const int lane = threadIdx.x % kLanes;
#pragma unroll
  for (int i = 0; i < kColumnsOfLane; ++i)
    if (const int c = lane + i * kLanes; c < width) target[c] = from_f32<T>(factor * x[i]);
}

// What the forward kernel reads and writes. The keys of a sequence are those of its own rows, and
// `before` rows in front of them.
struct ForwardArgs {
  ConstMatrix queries;    // [B*S, (H + ...) C]
  ConstMatrix keys;       // a sequence's keys and values, from its row 0 on
  std::int64_t key_rows;  // rows from one sequence to the next in `keys`
  std::int64_t first_k;   // column of the first key head
  std::int64_t before;
  Matrix output;     // [B*S, H C]
  float* logsumexp;  // [B, H, S], or null
  AttentionShape shape;
};

// The output and logsumexp of one tile of queries of one head.
template <class T>
__global__ void __launch_bounds__(kThreads, 1) attend(ForwardArgs args) {
  extern __shared__ float shared[];
  __shared__ float probabilities[kTile][kTile + 1];
  const AttentionShape& shape = args.shape;
  const int width = static_cast<int>(shape.head_dim), pitch = pitch_of(width);
  const Tile q{shared, pitch}, k{shared + kTile * pitch, pitch},
      v{shared + 2 * kTile * pitch, pitch};
  const std::int64_t sequence = blockIdx.z, head = blockIdx.y, before_all = args.before;
  const std::int64_t first_row = sequence * shape.seq_len;
  const std::int64_t key_column =
      args.first_k + head / (shape.num_heads / shape.num_kv_heads) * width;
  const Rows queries{args.queries, first_row, shape.seq_len, head * width};
  const Rows keys{args.keys, sequence * args.key_rows, before_all + shape.seq_len, key_column};
  const Rows values{args.keys, keys.first, keys.count, key_column + shape.num_kv_heads * width};
  // The last queries see the most keys: they come first, so that blocks end together.
  const std::int64_t q0 = (gridDim.x - 1 - blockIdx.x) * std::int64_t{kTile};
  const int row = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  const float scale = 1 / sqrtf(static_cast<float>(width));
  load_tile<T>(queries, q0, width, q);
  float sum[kColumnsOfLane] = {}, maximum = -INFINITY, denominator = 0;
  for (std::int64_t k0 = 0; k0 < min(before_all + q0 + kTile, keys.count); k0 += kTile) {
    __syncthreads();
    load_tile<T>(keys, k0, width, k);
    load_tile<T>(values, k0, width, v);
    __syncthreads();
    float scores[kKeysOfLane], block_maximum = -INFINITY;
#pragma unroll
    for (int j = 0; j < kKeysOfLane; ++j) {
      const int key = lane + j * kLanes;
      const bool is_seen = k0 + key <= before_all + q0 + row;
      scores[j] = is_seen ? scale * dot(q[row], k[key], width) : -INFINITY;
      block_maximum = Maximum{}(block_maximum, scores[j]);
    }
    // Finite from the first block on: every query sees key 0.
    const float before = maximum;
    maximum = Maximum{}(before, reduce_lanes(block_maximum, Maximum{}));
    const float shrink = k0 > 0 ? expf(before - maximum) : 0.0f;
    float block_sum = 0;
#pragma unroll
    for (int j = 0; j < kKeysOfLane; ++j) {
      const float p = expf(scores[j] - maximum);
      block_sum += p;
      probabilities[row][lane + j * kLanes] = rounded<T>(p);
    }
    denominator = shrink * denominator + reduce_lanes(block_sum, Sum{});
#pragma unroll
    for (int i = 0; i < kColumnsOfLane; ++i) sum[i] *= shrink;
    __syncwarp();
    add_rows(probabilities[row], v, width, sum);
  }
  if (q0 + row >= shape.seq_len) return;
  store_row(sum, 1 / denominator, row_of<T>(args.output, first_row + q0 + row) + head * width,
            width);
  if (args.logsumexp && lane == 0)
    args.logsumexp[(sequence * shape.num_heads + head) * shape.seq_len + q0 + row] =
        maximum + logf(denominator);
}

// What the backward kernels share: delta [B, H, S] = rowsum(dO O), and dK and dV [T, 2 Hkv C],
// which wait beside qkv, since dqkv may lie over it.
struct Scratch {
  float* delta;
  void* dkv;
  std::int64_t bytes;

  Scratch(const AttentionBackwardArgs& args) {
    const AttentionShape& shape = args.shape;
    const std::int64_t delta_bytes = ceil_div(shape.num_tokens() * shape.num_heads * 4, 256) * 256;
    delta = static_cast<float*>(args.workspace);
    dkv = static_cast<std::byte*>(args.workspace) + delta_bytes;
    bytes = delta_bytes +
            shape.num_tokens() * 2 * shape.num_kv_heads * shape.head_dim * size_of(args.qkv.dtype);
  }
};

// One warp a (token, head).
template <class T>
__global__ void __launch_bounds__(kThreads)
    compute_delta(AttentionBackwardArgs args, float* delta) {
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
    delta[(token / shape.seq_len * shape.num_heads + head) * shape.seq_len +
          token % shape.seq_len] = sum;
}

// The probability of a (query, key) pair and the gradient of its scaled score, both rounded to T;
// zero where the query does not see the key.
struct Pair {
  float p, ds;
};
template <class T>
__device__ Pair differentiate(const float* q, const float* k, const float* v, const float* doutput,
                              int width, bool is_seen, float scale, float logsumexp, float delta) {
  if (!is_seen) return {0, 0};
  const float p = expf(scale * dot(q, k, width) - logsumexp);
  return {rounded<T>(p), rounded<T>(p * (dot(doutput, v, width) - delta))};
}

// dQ of one tile of queries of one head.
template <class T>
__global__ void __launch_bounds__(kThreads)
    differentiate_queries(AttentionBackwardArgs args, const float* deltas) {
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
  const std::int64_t number = head.first_number + q0 + row;
  const float logsumexp = exists ? static_cast<const float*>(args.logsumexp)[number] : 0;
  const float delta = exists ? deltas[number] : 0;
  load_tile<T>({args.qkv, head.first_row, shape.seq_len, head.q}, q0, width, q);
  load_tile<T>({args.doutput, head.first_row, shape.seq_len, head.q}, q0, width, doutput);
  float sum[kColumnsOfLane] = {};
  for (std::int64_t k0 = 0; k0 <= q0; k0 += kTile) {
    __syncthreads();
    load_tile<T>({args.qkv, head.first_row, shape.seq_len, head.k}, k0, width, k);
    load_tile<T>({args.qkv, head.first_row, shape.seq_len, head.v}, k0, width, v);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kKeysOfLane; ++j) {
      const int key = lane + j * kLanes;
      ds[row][key] = differentiate<T>(q[row], k[key], v[key], doutput[row], width,
                                      exists && k0 + key <= q0 + row, scale, logsumexp, delta)
                         .ds;
    }
    __syncwarp();
    add_rows(ds[row], k, width, sum);
  }
  // No other block reads these queries, so dqkv may lie over qkv.
  if (exists)
    store_row(sum, scale, row_of<T>(args.dqkv, head.first_row + q0 + row) + head.q, width);
}

// dK and dV of one tile of keys of one key head, from all queries of its query heads. Here `row` is
// a key, and a lane's pairs are with queries.
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    differentiate_keys(AttentionBackwardArgs args, const float* deltas, T* dkv) {
  extern __shared__ float shared[];
  __shared__ float p[kTile][kTile + 1], ds[kTile][kTile + 1];
  __shared__ float logsumexp[kTile], delta[kTile];
  const AttentionShape& shape = args.shape;
  const int width = static_cast<int>(shape.head_dim), pitch = pitch_of(width);
  const Tile q{shared, pitch}, doutput{shared + kTile * pitch, pitch};
  const Tile k{shared + 2 * kTile * pitch, pitch}, v{shared + 3 * kTile * pitch, pitch};
  const std::int64_t group = shape.num_heads / shape.num_kv_heads, kv_head = blockIdx.y;
  const std::int64_t k0 = blockIdx.x * std::int64_t{kTile};
  const int row = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  const float scale = 1 / sqrtf(static_cast<float>(width));
  const Head first(shape, blockIdx.z, kv_head * group);
  load_tile<T>({args.qkv, first.first_row, shape.seq_len, first.k}, k0, width, k);
  load_tile<T>({args.qkv, first.first_row, shape.seq_len, first.v}, k0, width, v);
  float dk[kColumnsOfLane] = {}, dv[kColumnsOfLane] = {};
  for (std::int64_t h = 0; h < group; ++h) {
    const Head head(shape, blockIdx.z, kv_head * group + h);
    for (std::int64_t q0 = k0; q0 < shape.seq_len; q0 += kTile) {
      __syncthreads();
      load_tile<T>({args.qkv, head.first_row, shape.seq_len, head.q}, q0, width, q);
      load_tile<T>({args.doutput, head.first_row, shape.seq_len, head.q}, q0, width, doutput);
      if (threadIdx.x < kTile && q0 + threadIdx.x < shape.seq_len) {
        const std::int64_t number = head.first_number + q0 + threadIdx.x;
        logsumexp[threadIdx.x] = static_cast<const float*>(args.logsumexp)[number];
        delta[threadIdx.x] = deltas[number];
      }
      __syncthreads();
#pragma unroll
      for (int j = 0; j < kKeysOfLane; ++j) {
        const int query = lane + j * kLanes;
        const bool is_seen = q0 + query < shape.seq_len && k0 + row <= q0 + query;
        const Pair pair = differentiate<T>(q[query], k[row], v[row], doutput[query], width, is_seen,
                                           scale, logsumexp[query], delta[query]);
        p[row][query] = pair.p;
        ds[row][query] = pair.ds;
      }
      __syncwarp();
      add_rows(p[row], doutput, width, dv);
      add_rows(ds[row], q, width, dk);
    }
  }
  if (k0 + row >= shape.seq_len) return;
  T* target = dkv + (first.first_row + k0 + row) * 2 * shape.num_kv_heads * width + kv_head * width;
  store_row(dk, scale, target, width);
  store_row(dv, 1, target + shape.num_kv_heads * width, width);
}

void check_head_dim(const char* op, const AttentionShape& shape) {
  SMOE_CHECK(shape.head_dim <= kMostHeadDim, op, ": head_dim must be at most ", kMostHeadDim,
             " on a GPU; got ", shape.head_dim);
}

dim3 grid_of(const AttentionShape& shape, std::int64_t num_heads) {
  return dim3(static_cast<unsigned>(ceil_div(shape.seq_len, kTile)),
              static_cast<unsigned>(num_heads), static_cast<unsigned>(shape.batch));
}

template <class Kernel>
unsigned allow_shared(Kernel* kernel, std::int64_t bytes) {
  CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(bytes)));
  return static_cast<unsigned>(bytes);
}

void run_forward(const Launch& launch, const ForwardArgs& args) {
  check_head_dim("attention", args.shape);
  dispatch_storage("attention", args.queries.dtype, [&](auto type) {
    using T = decltype(type);
    if (args.shape.num_tokens() == 0) return;
    const unsigned bytes = allow_shared(attend<T>, 3 * tile_bytes(args.shape));
    attend<T>
        <<<grid_of(args.shape, args.shape.num_heads), kThreads, bytes, stream_of(launch)>>>(args);
    check_launch("attention");
  });
}

}  // namespace

void simt_attention(const Launch& launch, const AttentionArgs& args) {
  run_forward(launch, {.queries = args.qkv,
                       .keys = args.qkv,
                       .key_rows = args.shape.seq_len,
                       .first_k = args.shape.output_width(),
                       .before = 0,
                       .output = args.output,
                       .logsumexp = static_cast<float*>(args.logsumexp),
                       .shape = args.shape});
}

void simt_cached_attention(const Launch& launch, const CachedAttentionArgs& args) {
  const AttentionShape& shape = args.shape;
  const std::int64_t size = size_of(args.qkv.dtype), new_rows = shape.seq_len;
  const auto* source = static_cast<const std::byte*>(args.qkv.data) + shape.output_width() * size;
  auto* target =
      static_cast<std::byte*>(args.cache.data) + args.num_cached * args.cache.stride * size;
  for (std::int64_t sequence = 0; sequence < shape.batch; ++sequence)
    copy_matrix(launch,
                {source + sequence * new_rows * args.qkv.stride * size, args.qkv.dtype, new_rows,
                 args.cache.cols, args.qkv.stride},
                {target + sequence * args.capacity * args.cache.stride * size, args.cache.dtype,
                 new_rows, args.cache.cols, args.cache.stride});
  run_forward(launch, {.queries = args.qkv,
                       .keys = args.cache,
                       .key_rows = args.capacity,
                       .first_k = 0,
                       .before = args.num_cached,
                       .output = args.output,
                       .logsumexp = nullptr,
                       .shape = shape});
}

void simt_attention_backward(const Launch& launch, const AttentionBackwardArgs& args) {
  const AttentionShape& shape = args.shape;
  check_head_dim("attention_backward", shape);
  dispatch_storage("attention_backward", args.qkv.dtype, [&](auto type) {
    using T = decltype(type);
    if (args.qkv.rows == 0) return;
    const Scratch scratch(args);
    const cudaStream_t stream = stream_of(launch);
    const std::int64_t num_pairs = shape.num_tokens() * shape.num_heads;
    compute_delta<T>
        <<<static_cast<unsigned>(ceil_div(num_pairs, kThreads / kWarp)), kThreads, 0, stream>>>(
            args, scratch.delta);
    check_launch("attention_backward");
    differentiate_keys<T><<<grid_of(shape, shape.num_kv_heads), kThreads,
                            allow_shared(differentiate_keys<T>, 4 * tile_bytes(shape)), stream>>>(
        args, scratch.delta, static_cast<T*>(scratch.dkv));
    check_launch("attention_backward");
    differentiate_queries<T>
        <<<grid_of(shape, shape.num_heads), kThreads,
           allow_shared(differentiate_queries<T>, 4 * tile_bytes(shape)), stream>>>(args,
                                                                                    scratch.delta);
    check_launch("attention_backward");
    const std::int64_t width = 2 * shape.num_kv_heads * shape.head_dim;
    copy_matrix(launch, {scratch.dkv, args.dqkv.dtype, shape.num_tokens(), width, width},
                {static_cast<T*>(args.dqkv.data) + shape.output_width(), args.dqkv.dtype,
                 shape.num_tokens(), width, args.dqkv.stride});
  });
}

std::int64_t simt_attention_backward_workspace_bytes(const AttentionBackwardArgs& args) {
  return Scratch(args).bytes;
}

}  // namespace smoe::kernels::cuda
