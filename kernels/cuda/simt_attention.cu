// Attention in f32 arithmetic, for any head size up to 256: tiles of queries x keys in shared
// memory, with a running maximum and sum per query over the tiles of keys (arXiv:1805.02867,
// arXiv:2205.14135). A thread block owns a tile of queries and accumulates in a fixed order.
#include "kernels/cuda/simt_attention.h"

#include <cmath>

#include "kernels/cuda/simt_attention.cuh"

namespace smoe::kernels::cuda {
namespace {

using namespace attention_tiles;

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

}  // namespace smoe::kernels::cuda
