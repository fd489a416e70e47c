// Attention in f32 arithmetic, for any head size up to 256: tiles of queries x keys in shared
// memory, with a running maximum and sum per query over the tiles of keys (arXiv:1805.02867,
// arXiv:2205.14135). A thread block owns its output and accumulates in a fixed order: a tile of
// queries in the forward and for dQ, a tile of keys over all query heads that read it for dK and
// dV.
#include "kernels/cuda/simt_attention.h"

#include <cmath>

#include "kernels/attention_order.h"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {
namespace {

constexpr int kTile = 32;                     // queries, and keys, per tile
constexpr int kLanes = 8;                     // threads per row of a tile
constexpr int kThreads = kTile * kLanes;      // thread (row, lane)
constexpr int kKeysPerLane = kTile / kLanes;  // scores per lane: keys lane, lane + 8, ...
constexpr int kMaxHeadDim = 256;
constexpr int kColumnsPerLane = kMaxHeadDim / kLanes;

// Offsets of one query head of one sequence and of the key head that it attends to.
struct Head {
  std::int64_t first_row;      // of the sequence, in [T, ...]
  std::int64_t q;              // first column in q
  std::int64_t k, v;           // first columns in kv
  std::int64_t first_element;  // of numbers per query

  __device__ Head(const AttentionShape& shape, std::int64_t sequence, std::int64_t head)
      : first_row(sequence * shape.seq_len),
        q(head * shape.head_dim),
        k(shape.kv_head_of(head) * shape.head_dim),
        v(k + shape.num_kv_heads * shape.head_dim),
        first_element(first_query_number(shape, sequence, head)) {}
};

// A tile [kTile, C] of f32 in shared memory. The odd pitch puts the rows of a column into different
// banks.
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

// tile = rows [begin, begin + kTile); rows past the end of the sequence are zero.
template <class T>
__device__ void load_tile(const Rows& rows, std::int64_t begin, int width, const Tile& tile) {
  for (int at = threadIdx.x; at < kTile * width; at += kThreads) {
    const int i = at / width, c = at % width;
    const bool exists = begin + i < rows.count;
    tile[i][c] =
        exists ? to_f32(row_of<T>(rows.matrix, rows.first + begin + i)[rows.column + c]) : 0.0f;
  }
}

// The dot product of two rows.
__device__ inline float dot(const float* a, const float* b, int width) {
  float sum = 0;
  for (int c = 0; c < width; ++c) sum += a[c] * b[c];
  return sum;
}

// Reduces over the lanes of a row.
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

// sum[i] += <weights, column lane + 8 i of rows>: one row of a product of tiles. The lanes of a row
// wrote its weights themselves.
__device__ inline void add_weighted_rows(const float* weights, const Tile& rows, int width,
                                         float (&sum)[kColumnsPerLane]) {
  const int lane = threadIdx.x % kLanes;
  for (int j = 0; j < kTile; ++j) {
    const float weight = weights[j];
#pragma unroll
    for (int i = 0; i < kColumnsPerLane; ++i)
      if (const int c = lane + i * kLanes; c < width) sum[i] += weight * rows[j][c];
  }
}

template <class T>
__device__ void store_row(const float (&x)[kColumnsPerLane], float factor, T* target, int width) {
  const int lane = threadIdx.x % kLanes;
#pragma unroll
  for (int i = 0; i < kColumnsPerLane; ++i)
    if (const int c = lane + i * kLanes; c < width) target[c] = from_f32<T>(factor * x[i]);
}

// Arguments of the forward kernel. The keys of a sequence are `before` cached rows, then those of
// its own rows.
struct ForwardArgs {
  ConstMatrix queries;    // [B*S, H C]
  ConstMatrix keys;       // [..., 2 Hkv C], keys and values of each sequence from its row 0
  std::int64_t key_rows;  // rows between sequences in `keys`
  std::int64_t before;
  Matrix output;     // [B*S, H C]
  float* logsumexp;  // or null
  AttentionShape shape;
};

// Computes the output and logsumexp of one tile of queries of one head.
template <class T>
__global__ void __launch_bounds__(kThreads, 1) attention_forward_kernel(ForwardArgs args) {
  extern __shared__ float shared[];
  __shared__ float probabilities[kTile][kTile + 1];
  const AttentionShape& shape = args.shape;
  const int width = static_cast<int>(shape.head_dim), pitch = pitch_of(width);
  const Tile q{shared, pitch}, k{shared + kTile * pitch, pitch},
      v{shared + 2 * kTile * pitch, pitch};
  const std::int64_t sequence = blockIdx.z, head = blockIdx.y, before_all = args.before;
  const std::int64_t first_row = sequence * shape.seq_len;
  const std::int64_t key_column = shape.kv_head_of(head) * width;
  const Rows queries{args.queries, first_row, shape.seq_len, head * width};
  const Rows keys{args.keys, sequence * args.key_rows, before_all + shape.seq_len, key_column};
  const Rows values{args.keys, keys.first, keys.count, key_column + shape.num_kv_heads * width};
  // The last queries attend to the most keys: they run first, to balance the thread blocks.
  const std::int64_t q0 = (gridDim.x - 1 - blockIdx.x) * std::int64_t{kTile};
  const int row = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  const float scale = 1 / sqrtf(static_cast<float>(width));
  load_tile<T>(queries, q0, width, q);
  float sum[kColumnsPerLane] = {}, maximum = -INFINITY, denominator = 0;
  for (std::int64_t k0 = 0; k0 < min(before_all + q0 + kTile, keys.count); k0 += kTile) {
    __syncthreads();
    load_tile<T>(keys, k0, width, k);
    load_tile<T>(values, k0, width, v);
    __syncthreads();
    float scores[kKeysPerLane], block_maximum = -INFINITY;
#pragma unroll
    for (int j = 0; j < kKeysPerLane; ++j) {
      const int key = lane + j * kLanes;
      const bool is_visible = k0 + key <= before_all + q0 + row;
      scores[j] = is_visible ? scale * dot(q[row], k[key], width) : -INFINITY;
      block_maximum = Maximum{}(block_maximum, scores[j]);
    }
    // Finite from the first tile on: every query attends to key 0.
    const float before = maximum;
    maximum = Maximum{}(before, reduce_lanes(block_maximum, Maximum{}));
    const float shrink = k0 > 0 ? expf(before - maximum) : 0.0f;
    float block_sum = 0;
#pragma unroll
    for (int j = 0; j < kKeysPerLane; ++j) {
      const float p = expf(scores[j] - maximum);
      block_sum += p;
      probabilities[row][lane + j * kLanes] = rounded<T>(p);
    }
    denominator = shrink * denominator + reduce_lanes(block_sum, Sum{});
#pragma unroll
    for (int i = 0; i < kColumnsPerLane; ++i) sum[i] *= shrink;
    __syncwarp();
    add_weighted_rows(probabilities[row], v, width, sum);
  }
  if (q0 + row >= shape.seq_len) return;
  store_row(sum, 1 / denominator, row_of<T>(args.output, first_row + q0 + row) + head * width,
            width);
  if (args.logsumexp && lane == 0)
    args.logsumexp[first_query_number(shape, sequence, head) + q0 + row] =
        maximum + logf(denominator);
}

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

void check_head_dim(const char* op, const AttentionShape& shape) {
  SMOE_CHECK(shape.head_dim <= kMaxHeadDim, op, ": head_dim must be at most ", kMaxHeadDim,
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
    const unsigned bytes = allow_shared(attention_forward_kernel<T>, 3 * tile_bytes(args.shape));
    attention_forward_kernel<T>
        <<<grid_of(args.shape, args.shape.num_heads), kThreads, bytes, stream_of(launch)>>>(args);
    check_launch("attention");
  });
}

}  // namespace

void simt_attention(const Launch& launch, const AttentionArgs& args) {
  run_forward(launch, {.queries = args.q,
                       .keys = args.kv,
                       .key_rows = args.shape.seq_len,
                       .before = 0,
                       .output = args.output,
                       .logsumexp = static_cast<float*>(args.logsumexp),
                       .shape = args.shape});
}

void simt_cached_attention(const Launch& launch, const CachedAttentionArgs& args) {
  const AttentionShape& shape = args.shape;
  const std::int64_t size = size_of(args.kv.dtype), new_rows = shape.seq_len;
  const auto* source = static_cast<const std::byte*>(args.kv.data);
  auto* target =
      static_cast<std::byte*>(args.cache.data) + args.num_cached * args.cache.stride * size;
  for (std::int64_t sequence = 0; sequence < shape.batch; ++sequence)
    copy_matrix(launch,
                {source + sequence * new_rows * args.kv.stride * size, args.kv.dtype, new_rows,
                 args.cache.cols, args.kv.stride},
                {target + sequence * args.capacity * args.cache.stride * size, args.cache.dtype,
                 new_rows, args.cache.cols, args.cache.stride});
  run_forward(launch, {.queries = args.q,
                       .keys = args.cache,
                       .key_rows = args.capacity,
                       .before = args.num_cached,
                       .output = args.output,
                       .logsumexp = nullptr,
                       .shape = shape});
}

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
