// One kernel computes the sines, in double and then rounded; the other turns: a thread takes kWidth
// pairs of one head, or copies as many elements of a value head.
#include "kernels/rotary.h"

#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// table [S, C]: C/2 cosines, then C/2 sines, for each row's position.
__global__ void __launch_bounds__(kThreads) fill_table(RotaryArgs args) {
  const std::int64_t width = args.shape.head_dim, half = width / 2;
  const std::int64_t at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= args.shape.seq_len * half) return;
  const std::int64_t row = at / half, i = at % half;
  const double frequency = pow(args.theta, -2.0 * static_cast<double>(i) / width);
  double sine, cosine;
  sincos(static_cast<double>(args.first_position + row) * frequency, &sine, &cosine);
  float* angles = static_cast<float*>(args.workspace) + row * width;
  angles[i] = static_cast<float>(cosine);
  angles[half + i] = static_cast<float>(args.inverse ? -sine : sine);
}

// A row's work: pieces of N pairs of its query and key heads, then of 2 N elements of its value
// heads.
template <int N, class T>
__global__ void __launch_bounds__(kThreads) turn(RotaryArgs args, std::int64_t num_pieces) {
  const AttentionShape& shape = args.shape;
  const std::int64_t width = shape.head_dim, half = width / 2, pieces_of_head = half / N;
  const std::int64_t at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= num_pieces * args.source.rows) return;
  const std::int64_t row = at / num_pieces, piece = at % num_pieces;
  const std::int64_t head = piece / pieces_of_head, i = piece % pieces_of_head * N;
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
      const float x = low[j], y = high[j];
      low[j] = x * cosine[j] - y * sine[j];
      high[j] = y * cosine[j] + x * sine[j];
    }
  }
  store(target + head * width + i, low);
  store(target + head * width + half + i, high);
}

}  // namespace

void rotary(const Launch& launch, const RotaryArgs& args) {
  const AttentionShape& shape = args.shape;
  const std::int64_t half = shape.head_dim / 2;
  // In place the value heads are where they belong.
  const std::int64_t num_heads =
      shape.num_heads + shape.num_kv_heads * (args.source.data == args.target.data ? 1 : 2);
  dispatch_storage("rotary", args.source.dtype, [&](auto type) {
    using T = decltype(type);
    if (args.source.rows == 0 || half == 0) return;
    fill_table<<<static_cast<unsigned>(ceil_div(shape.seq_len * half, kThreads)), kThreads, 0,
                 stream_of(launch)>>>(args);
    check_launch("rotary");
    const bool fits = fits_width(args.source) && fits_width(args.target) &&
                      is_aligned(args.workspace) && half % kWidth == 0;
    dispatch_width(fits, [&](auto width) {
      const std::int64_t num_pieces = num_heads * half / width;
      turn<width, T><<<static_cast<unsigned>(ceil_div(args.source.rows * num_pieces, kThreads)),
                       kThreads, 0, stream_of(launch)>>>(args, num_pieces);
      check_launch("rotary");
    });
  });
}

std::int64_t rotary_workspace_bytes(const Launch&, const RotaryArgs& args) {
  return args.shape.seq_len * args.shape.head_dim * std::int64_t{sizeof(float)};
}

}  // namespace smoe::kernels::cuda
