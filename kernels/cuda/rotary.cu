// Rotary embedding. One kernel computes the table of sines and cosines, in double and then rounded;
// the others rotate: one thread per kWidth pairs of a head, which it copies if it is a value head.
#include "kernels/rotary.h"

#include <algorithm>

#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launch_following.cuh"
#include "kernels/cuda/rotary_table.h"

namespace smoe::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxBlockRows = 64;  // the most threads along z that CUDA allows

__global__ void __launch_bounds__(kThreads)
    rotary_table_kernel(RotaryArgs args, float* by_accumulator) {
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
  if (!by_accumulator) return;
  float* pair =
      by_accumulator + (row / 8 * (width / 16) + i / 8) * 128 + row % 8 * 16 + i % 8 / 2 * 4;
  pair[i % 2] = static_cast<float>(cosine);
  pair[i % 2 + 2] = static_cast<float>(sine);
}

// Rotates the pairs (low[j], high[j]).
template <int N>
__device__ void rotate(float (&low)[N], float (&high)[N], const float (&cosine)[N],
                       const float (&sine)[N], bool inverse) {
#pragma unroll
  for (int j = 0; j < N; ++j) {
    const float x = low[j], y = high[j], s = inverse ? -sine[j] : sine[j];
    low[j] = x * cosine[j] - y * s;
    high[j] = y * cosine[j] + x * s;
  }
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
    rotate(low, high, cosine, sine, args.inverse);
  }
  store(target + head * width + i, low);
  store(target + head * width + half + i, high);
}

// Rotates the N pairs at source and source + half.
template <int N, class T>
__device__ void rotate_at(const T* source, T* target, int half, const float (&cosine)[N],
                          const float (&sine)[N], bool inverse) {
  float low[N], high[N];
  load(source, low);
  load(source + half, high);
  rotate(low, high, cosine, sine, inverse);
  store(target, low);
  store(target + half, high);
}

// In place, without a division per thread: thread (i, j, k) of a block takes the i-th N pairs of
// head j of its row k.
template <int N, class T>
__global__ void __launch_bounds__(kThreads) rotary_in_place_kernel(RotaryArgs args) {
  follow_preceding_kernel();
  const int width = args.shape.head_dim, half = width / 2;
  const std::int64_t row = std::int64_t{blockIdx.x} * blockDim.z + threadIdx.z;
  if (row >= args.source.rows) return;
  const int i = threadIdx.x * N;
  const int position =
      static_cast<int>(static_cast<unsigned>(row) % static_cast<unsigned>(args.shape.seq_len));
  const float* angles = static_cast<const float*>(args.workspace) + position * width + i;
  float cosine[N], sine[N];
  load(angles, cosine);
  load(angles + half, sine);
  rotate_at<N, T>(row_of<T>(args.source, row) + threadIdx.y * width + i,
                  row_of<T>(args.target, row) + threadIdx.y * width + i, half, cosine, sine,
                  args.inverse);
}

// The same for bf16. False, with nothing done, if it is not in place, where vector accesses are not
// aligned or a block cannot have a whole row, and for what cannot be counted in 32 bits.
bool rotate_in_place(const Launch& launch, const RotaryArgs& args) {
  using T = __nv_bfloat16;
  const AttentionShape& shape = args.shape;
  const std::int64_t columns = shape.head_dim / 2 / kWidth;
  const std::int64_t heads = shape.num_heads + shape.num_kv_heads;
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  if (args.source.data != args.target.data || args.source.dtype != DType::bf16 ||
      !fits_width(args.source) || !fits_width(args.target) || !is_aligned(args.workspace) ||
      shape.head_dim % (2 * kWidth) != 0 || columns * heads > kThreads ||
      args.source.rows >= kMost || shape.seq_len * shape.head_dim >= kMost)
    return false;
  const std::int64_t rows = std::min(kThreads / (columns * heads), kMaxBlockRows);
  const dim3 threads(static_cast<unsigned>(columns), static_cast<unsigned>(heads),
                     static_cast<unsigned>(rows));
  const auto blocks = static_cast<unsigned>(ceil_div(args.source.rows, rows));
  launch_following<rotary_in_place_kernel<kWidth, T>>(launch, {blocks, threads}, args);
  return true;
}

}  // namespace

void fill_rotary_table(const Launch& launch, const RotaryArgs& args) {
  if (args.has_table) return;
  const std::int64_t angles = args.shape.seq_len * (args.shape.head_dim / 2);
  rotary_table_kernel<<<static_cast<unsigned>(ceil_div(angles, kThreads)), kThreads, 0,
                        stream_of(launch)>>>(args, accumulator_angles(args));
  check_launch("rotary");
}

void rotary(const Launch& launch, const RotaryArgs& args) {
  const AttentionShape& shape = args.shape;
  const std::int64_t half = shape.head_dim / 2;
  // In place, the value heads need no copy.
  const std::int64_t num_heads =
      shape.num_heads + shape.num_kv_heads * (args.source.data == args.target.data ? 1 : 2);
  dispatch_storage("rotary", args.source.dtype, [&](auto type) {
    using T = decltype(type);
    if (args.source.rows == 0 || half == 0) return;
    fill_rotary_table(launch, args);
    if (rotate_in_place(launch, args)) return;
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
  const std::int64_t length = args.shape.seq_len, width = args.shape.head_dim;
  const std::int64_t positions =
      length + (has_accumulator_angles(args.shape) ? ceil_div(length, 8) * 8 : 0);
  return positions * width * std::int64_t{sizeof(float)};
}

}  // namespace smoe::kernels::cuda
