// In the forward a block has one row, which it reads once. In the backward, with r = inverse_rms
// and g = dy * weight, dx = r (g - x r^2 mean(g x)) and dweight = sum over rows of dy x r; there a
// block has several rows, which it reads ahead into shared memory, and a thread keeps the weights
// and the partial dweight of its columns in registers.
#include "kernels/cuda/norm_by_columns.h"

#include <algorithm>

#include "kernels/cuda/device/checked_index.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launch_following.cuh"
#include "kernels/cuda/norm_by_warps.h"
#include "kernels/cuda/norm_operands.h"

namespace smoe::kernels::cuda {
namespace {

using T = __nv_bfloat16;
constexpr int kWarps = 4, kThreads = kWarps * kWarp, kMaxColumns = kThreads * kWidth;

// Both aligned to 16 bytes.
__device__ void copy_async(void* shared, const void* global) {
  const auto at = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(global) : "memory");
}
__device__ void unpack(const uint4& packed, float (&x)[kWidth]) {
  load(reinterpret_cast<const T*>(&packed), x);
}

// For kTopK rows to be summed.
template <int kTopK>
__global__ void __launch_bounds__(kThreads)
    rms_norm_forward_columns_kernel(const __grid_constant__ RmsNormArgs args) {
  follow_preceding_kernel();
  __shared__ float scratch[kWarps];
  const std::int64_t row = blockIdx.x;
  const int column = threadIdx.x * kWidth, n = static_cast<int>(args.x.cols);
  const bool has_columns = column < n;
  float a[kWidth] = {}, delta[kWidth] = {}, weight[kWidth] = {};
  if (has_columns) {
    std::int32_t index[kTopK];
#pragma unroll
    for (int k = 0; k < kTopK; ++k) index[k] = args.grouped_rows[row * kTopK + k];
    load(row_of<T>(args.x, row) + column, a);
    load(static_cast<const float*>(args.weight) + column, weight);
    float part[kTopK][kWidth];
#pragma unroll
    for (int k = 0; k < kTopK; ++k)
      load(row_of<T>(args.delta, checked_index(index[k], args.delta.rows)) + column, part[k]);
#pragma unroll
    for (int k = 0; k < kTopK; ++k)
#pragma unroll
      for (int i = 0; i < kWidth; ++i) delta[i] += part[k][i];
  }
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    a[i] = to_f32(from_f32<T>(a[i] + to_f32(from_f32<T>(delta[i]))));
    squares += a[i] * a[i];
  }
  if (has_columns) store(row_of<T>(args.sum, row) + column, a);
  squares = reduce_block<kThreads>(squares, Sum{}, scratch);
  const float inverse_rms = 1.0f / sqrtf(squares / n + static_cast<float>(args.epsilon));
  if (threadIdx.x == 0) static_cast<float*>(args.inverse_rms)[row] = inverse_rms;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) a[i] = a[i] * inverse_rms * weight[i];
  if (has_columns) store(row_of<T>(args.y, row) + column, a);
}

// Rows that are read ahead, and blocks that an SM has at once.
constexpr int kStages = 4, kBlocks = 4;

// The rows of a block.
struct Rows {
  int begin, end, step;

  // Either rows gridDim.x apart, so that all blocks together read consecutive memory, or
  // consecutive ones, so that the few numbers that belong to a row are found in the L1 cache.
  __device__ Rows(std::int64_t num_rows, std::int64_t rows_of_block, bool is_strided)
      : begin(is_strided ? blockIdx.x : blockIdx.x * static_cast<int>(rows_of_block)),
        end(is_strided ? static_cast<int>(num_rows)
                       : min(begin + static_cast<int>(rows_of_block), static_cast<int>(num_rows))),
        step(is_strided ? gridDim.x : 1) {}
};

// The operands of a block's rows, read kStages rows ahead into shared memory: of each row the
// routed rows, the dense part, x and dsum, as far as they are there. A thread reads only what it
// has copied itself, so no barrier is needed.
class OperandRing {
 public:
  __device__ OperandRing(const RmsNormBackwardArgs& args, uint4* ring, const Rows& rows, int column,
                         bool has_columns)
      : args_(args),
        ring_(ring),
        rows_(rows),
        column_(column),
        has_columns_(has_columns),
        top_k_(args.dy.rows.data ? static_cast<int>(args.dy.top_k) : 0),
        num_parts_(top_k_ + (args.dy.dense.data ? 1 : 0)),
        num_operands_(num_parts_ + 1 + (args.dsum.data ? 1 : 0)) {
    read_indices(rows.begin);
    for (int s = 0; s < kStages; ++s) copy(rows.begin + s * rows.step, s);
  }

  // Waits for row t and reads it, then copies a later row to its place: the sum of the gradient's
  // parts but dlogits, x, and dsum as it is stored. Zeros if the thread has no columns.
  __device__ void read(int t, int stage, float (&g)[kWidth], float (&x)[kWidth], uint4& dsum) {
    asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 1) : "memory");
    const uint4* slot = ring_ + stage * num_operands_ * kThreads + threadIdx.x;
    if (has_columns_) {
      for (int k = 0; k < num_parts_; ++k) {
        float part[kWidth];
        unpack(*slot, part);
        slot += kThreads;
#pragma unroll
        for (int i = 0; i < kWidth; ++i) g[i] += part[i];
      }
      unpack(*slot, x);
      if (args_.dsum.data) dsum = slot[kThreads];
    }
    copy(t + kStages * rows_.step, stage);
  }

 private:
  __device__ void copy(int t, int stage) {
    if (t < rows_.end) {
      const GradientParts& parts = args_.dy;
      uint4* slot = ring_ + stage * num_operands_ * kThreads + threadIdx.x;
      const auto copy_row = [&](const ConstMatrix& m, std::int64_t row) {
        if (has_columns_) copy_async(slot, row_of<T>(m, row) + column_);
        slot += kThreads;
      };
      for (int k = 0; k < top_k_; ++k)
        copy_row(parts.rows, checked_index(__shfl_sync(~0u, next_index_, k), parts.rows.rows));
      if (parts.dense.data) copy_row(parts.dense, t);
      copy_row(args_.x, t);
      if (args_.dsum.data) copy_row(args_.dsum, t);
      read_indices(t + rows_.step);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
  __device__ void read_indices(int t) {
    const int lane = threadIdx.x % kWarp;
    if (lane < top_k_ && t < rows_.end)
      next_index_ = args_.dy.grouped_rows[std::int64_t{t} * top_k_ + lane];
  }

  const RmsNormBackwardArgs& args_;
  uint4* ring_;
  const Rows& rows_;
  int column_;
  bool has_columns_;
  int top_k_, num_parts_, num_operands_;
  int next_index_ = 0;  // of the next row to be copied; lane k has that of its k-th routed row
};

// inverse_rms and dlogits of a row, read one row ahead.
class RowFactors {
 public:
  __device__ RowFactors(const RmsNormBackwardArgs& args, const Rows& rows, int num_experts)
      : args_(args), rows_(rows), num_experts_(num_experts) {
    read(rows.begin);
  }
  __device__ void read(int t) {
    if (t >= rows_.end) return;
    inverse_rms = static_cast<const float*>(args_.inverse_rms)[t];
    const int lane = threadIdx.x % kWarp;
    if (lane < num_experts_) dlogit = row_of<float>(args_.dy.dlogits, t)[lane];
  }

  float inverse_rms = 0;
  float dlogit = 0;  // lane e has that of expert e

 private:
  const RmsNormBackwardArgs& args_;
  const Rows& rows_;
  int num_experts_;
};

// gradient += dlogits times the router's weight. Lane e has the dlogit of expert e, 0 from the
// router's last one on.
template <int kExperts>
__device__ void add_router(const float (&router)[kExperts][kWidth], float dlogit,
                           float (&gradient)[kWidth]) {
  float sum[kWidth] = {};
#pragma unroll
  for (int e = 0; e < kExperts; ++e) {
    const float factor = __shfl_sync(~0u, dlogit, e);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum[i] = fmaf(factor, router[e][i], sum[i]);
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) gradient[i] += sum[i];
}

// kExperts is 0 without dlogits, otherwise the largest number of them.
template <int kExperts>
__global__ void __launch_bounds__(kThreads, kBlocks)
    rms_norm_backward_columns_kernel(const __grid_constant__ RmsNormBackwardArgs args,
                                     std::int64_t rows_of_block) {
  follow_preceding_kernel();
  extern __shared__ __align__(128) uint4 ring[];
  __shared__ alignas(16) float scratch[2][kWarps];  // for even and odd rows
  const auto n = static_cast<int>(args.x.cols);
  const int column = threadIdx.x * kWidth, lane = threadIdx.x % kWarp;
  const Rows rows(args.x.rows, rows_of_block, kExperts == 0);
  const bool has_columns = column < n;
  OperandRing operands(args, ring, rows, column, has_columns);
  const int num_experts = kExperts > 0 ? static_cast<int>(args.dy.weight.rows) : 0;
  float weight[kWidth] = {}, partial[kWidth] = {}, router[std::max(kExperts, 1)][kWidth];
  if (has_columns) load(static_cast<const float*>(args.weight) + column, weight);
#pragma unroll
  for (int e = 0; e < kExperts; ++e) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) router[e][i] = 0;
    if (has_columns && e < num_experts) load(row_of<float>(args.dy.weight, e) + column, router[e]);
  }
  RowFactors next(args, rows, num_experts);
  const float inverse_n = 1.0f / static_cast<float>(n);
  int stage = 0, parity = 0;
  for (int t = rows.begin; t < rows.end; t += rows.step) {
    const float r = next.inverse_rms, dlogit = next.dlogit;
    next.read(t + rows.step);
    float g[kWidth] = {}, x[kWidth] = {}, dot = 0;
    uint4 dsum = {};
    operands.read(t, stage, g, x, dsum);
    stage = stage + 1 == kStages ? 0 : stage + 1;
    if constexpr (kExperts > 0) add_router(router, dlogit, g);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      partial[i] += g[i] * x[i] * r;
      g[i] *= weight[i];
      dot += g[i] * x[i];
    }
    dot = reduce_warp(dot, Sum{});
    if (lane == 0) scratch[parity][threadIdx.x / kWarp] = dot;
    __syncthreads();
    dot = 0;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) dot += scratch[parity][warp];
    parity ^= 1;
    const float shrink = r * r * dot * inverse_n;
    float dx[kWidth];
    unpack(dsum, dx);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) dx[i] += r * (g[i] - x[i] * shrink);
    if (has_columns) store(row_of<T>(args.dx, t) + column, dx);
  }
  if (has_columns)
    store(static_cast<float*>(args.workspace) + std::int64_t{blockIdx.x} * n + column, partial);
}

bool has_width(const ConstMatrix& x) {
  return x.dtype == DType::bf16 && x.cols > kMaxColumns / 2 && x.cols <= kMaxColumns;
}

// False if an SM's shared memory is too small for kBlocks blocks.
template <int kExperts>
bool launch_backward(const Launch& launch, const RmsNormBackwardArgs& args) {
  constexpr auto kKernel = rms_norm_backward_columns_kernel<kExperts>;
  constexpr std::int64_t kOtherBytes = 2 << 10;  // what else a block has there, at most
  const std::int64_t num_operands = (args.dy.rows.data ? args.dy.top_k : 0) +
                                    (args.dy.dense.data ? 1 : 0) + 1 + (args.dsum.data ? 1 : 0);
  const std::int64_t bytes = kStages * num_operands * kThreads * std::int64_t{sizeof(uint4)};
  const int most = attribute(launch, cudaDevAttrMaxSharedMemoryPerMultiprocessor);
  if (bytes > most / kBlocks - kOtherBytes) return false;
  CUDA_CHECK(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(bytes)));
  const RowBlocks blocks = norm_blocks(args.x.rows);
  launch_following<kKernel>(
      launch, {static_cast<unsigned>(blocks.count), kThreads, static_cast<std::size_t>(bytes)},
      args, blocks.rows);
  return true;
}

}  // namespace

bool rms_norm_by_columns(const Launch& launch, const RmsNormArgs& args) {
  constexpr int kTopK = 2;
  if (!has_width(args.x) || !fits_width(args) || !args.grouped_rows || args.top_k != kTopK)
    return false;
  launch_following<rms_norm_forward_columns_kernel<kTopK>>(
      launch, {static_cast<unsigned>(args.x.rows), kThreads}, args);
  return true;
}

bool rms_norm_backward_by_columns(const Launch& launch, const RmsNormBackwardArgs& args) {
  const GradientParts& dy = args.dy;
  const bool fits = fits_width(args) && is_aligned(args.workspace);
  constexpr std::int64_t kMaxRows = std::int64_t{1} << 30;
  if (!has_width(args.x) || !fits || args.x.rows > kMaxRows) return false;
  if (!dy.rows.data && !dy.dlogits.data) return launch_backward<0>(launch, args);
  if (dy.rows.data && dy.top_k <= kWarp && dy.dlogits.data && dy.weight.rows <= kMaxPartExperts)
    return launch_backward<kMaxPartExperts>(launch, args);
  return false;
}

}  // namespace smoe::kernels::cuda
