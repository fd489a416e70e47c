// Rotary embedding. One kernel computes the table of sines and cosines, in double and then rounded;
// the other rotates: one thread per kWidth pairs of a head, which it copies if it is a value head.
#include "kernels/rotary.h"

#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launch_following.cuh"

namespace smoe::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// table [S, C]: for each position C/2 cosines, then C/2 sines.
__global__ void __launch_bounds__(kThreads) rotary_table_kernel(RotaryArgs args) {
  const std::int64_t width = args.shape.head_dim, half = width / 2;
  const std::int64_t at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= args.shape.seq_len * half) return;
  const std::int64_t row = at / half, i = at % half;
  const double frequency = pow(args.theta, -2.0 * static_cast<double>(i) / width);
  double sine, cosine;
  sincos(static_cast<double>(args.first_position + row) * frequency, &sine, &cosine);
  float* angles = static_cast<float*>(args.workspace) + row * width;
  angles[i] = static_cast<float>(cosine);
  angles[half + i] = static_cast<float>(sine);
}

// Per row: chunks of N pairs of the query and key heads, then of 2 N elements of the value heads.
template <int N, class T>
__global__ void __launch_bounds__(kThreads)
    rotary_kernel(RotaryArgs args, std::int64_t num_chunks) {
  follow_preceding_kernel();
  const AttentionShape& shape = args.shape;
  const std::int64_t width = shape.head_dim, half = width / 2, chunks_per_head = half / N;
  const std::int64_t at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= num_chunks * args.source.rows) return;
  const std::int64_t row = at / num_chunks, chunk = at % num_chunks;
  const std::int64_t head = chunk / chunks_per_head, i = chunk % chunks_per_head * N;
  const T* source = row_of<T>(args.source, row);
  T* target = row_of<T>(args.target, row);
  float low[N], high[N];
  load(source + head * width + i, low);
  load(source + head * width + half + i, high);
  if (head < shape.num_heads + shape.num_kv_heads) {
    const float* angles =
        static_cast<const float*>(args.workspace) + row % shape.seq_len * width + i;
    float cosine[N], sine[N];
    load(angles, cosine);
    load(angles + half, sine);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const float x = low[j], y = high[j], s = args.inverse ? -sine[j] : sine[j];
      low[j] = x * cosine[j] - y * s;
      high[j] = y * cosine[j] + x * s;
    }
  }
  store(target + head * width + i, low);
  store(target + head * width + half + i, high);
}

}  // namespace

void rotary(const Launch& launch, const RotaryArgs& args) {
  const AttentionShape& shape = args.shape;
  const std::int64_t half = shape.head_dim / 2;
  // In place, the value heads need no copy.
  const std::int64_t num_heads =
      shape.num_heads + shape.num_kv_heads * (args.source.data == args.target.data ? 1 : 2);
  dispatch_storage("rotary", args.source.dtype, [&](auto type) {
    using T = decltype(type);
    if (args.source.rows == 0 || half == 0) return;
    if (!args.has_table)
      rotary_table_kernel<<<static_cast<unsigned>(ceil_div(shape.seq_len * half, kThreads)),
                            kThreads, 0, stream_of(launch)>>>(args);
    check_launch("rotary");
    const bool fits = fits_width(args.source) && fits_width(args.target) &&
                      is_aligned(args.workspace) && half % kWidth == 0;
    dispatch_width(fits, [&](auto width) {
      const std::int64_t num_chunks = num_heads * half / width;
      launch_following<rotary_kernel<width, T>>(
          launch,
          {static_cast<unsigned>(ceil_div(args.source.rows * num_chunks, kThreads)), kThreads},
          args, num_chunks);
    });
  });
}

std::int64_t rotary_workspace_bytes(const Launch&, const RotaryArgs& args) {
  return args.shape.seq_len * args.shape.head_dim * std::int64_t{sizeof(float)};
}

}  // namespace smoe::kernels::cuda
