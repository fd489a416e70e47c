// A block reads one expert's rows, a chunk of 16 bytes per thread: kChunks chunks of kRows rows at
// a time. Its threads sum their columns, and the threads of a row multiply it by its other row.
// Sums of columns are reduced over the block, products over the blocks of a row by another kernel,
// both in order.
#include "kernels/cuda/row_pass.h"

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/row_index.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// With one element per access a warp reads whole sectors of a row.
constexpr int chunks_of(int width) {
  return width == 1 ? kWarp : 8;
}
bool fits(const RowPass& pass) {
  return fits_width(pass.rows.rows) && fits_width(pass.gated) && fits_width(pass.others);
}
std::int64_t num_col_blocks(const RowPass& pass, int width) {
  return ceil_div(pass.rows.rows.cols, chunks_of(width) * width);
}

struct Args {
  ConstMatrix rows, others;
  RowIndex index;
  const std::int32_t *ids, *expert_offsets;
  const float* gates;
  Matrix gated;
  void* sums;               // [E, D]
  float* partial_products;  // [column blocks, N]
  std::int64_t num_rows;
  float beta;

  __device__ float gate(std::int32_t p) const { return gates ? gates[ids[p]] : 1.0f; }
};

// Elements as they are stored.
template <int N, class T>
struct Chunk {
  using Access = detail::access_t<T, N>;
  static constexpr int kAccesses = N * int{sizeof(T)} / int{sizeof(Access)};
  Access stored[kAccesses] = {};

  __device__ void load(const T* p) {
#pragma unroll
    for (int i = 0; i < kAccesses; ++i) stored[i] = reinterpret_cast<const Access*>(p)[i];
  }
  __device__ float operator[](int i) const {
    return to_f32(reinterpret_cast<const T*>(stored)[i]);
  }
};

// G stores the sums.
template <int N, class T, class G>
__global__ void __launch_bounds__(kThreads) expert_rows_kernel(const __grid_constant__ Args args) {
  constexpr int kChunks = chunks_of(N), kCols = kChunks * N, kRows = kThreads / kChunks;
  constexpr int kBatch = 4;  // loads in flight per thread; results may overwrite what was read
  const int chunk = threadIdx.x % kChunks, row = threadIdx.x / kChunks;
  const int expert = blockIdx.x, first_col = blockIdx.y * kCols, col = first_col + chunk * N;
  const auto num_cols = static_cast<int>(args.rows.cols);
  const int end = args.expert_offsets[expert + 1];
  float sums[N] = {};
  for (int first = args.expert_offsets[expert]; first < end; first += kBatch * kRows) {
    Chunk<N, T> values[kBatch], others[kBatch];
    float gates[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int p = first + i * kRows + row;
      if (p >= end || col >= num_cols) continue;
      values[i].load(row_of<T>(args.rows, args.index(p)) + col);
      if (args.partial_products) others[i].load(row_of<T>(args.others, p) + col);
      gates[i] = args.gate(p);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int p = first + i * kRows + row;
      const bool is_in = p < end && col < num_cols;
      if (args.partial_products) {
        float product = 0;
#pragma unroll
        for (int n = 0; n < N; ++n) product = fmaf(values[i][n], others[i][n], product);
#pragma unroll
        for (int distance = kChunks / 2; distance > 0; distance /= 2)
          product += __shfl_xor_sync(~0u, product, distance);
        if (chunk == 0 && p < end) args.partial_products[blockIdx.y * args.num_rows + p] = product;
      }
      if (!is_in) continue;
      float gated[N];
#pragma unroll
      for (int n = 0; n < N; ++n) {
        gated[n] = to_f32(from_f32<T>(gates[i] * values[i][n]));
        sums[n] += gated[n];
      }
      if (args.gated.data) store(row_of<T>(args.gated, p) + col, gated);
    }
  }
  if (!args.sums) return;
  __shared__ float partial[kRows][kCols];
#pragma unroll
  for (int n = 0; n < N; ++n) partial[row][chunk * N + n] = sums[n];
  __syncthreads();
  const int own = threadIdx.x;
  if (own >= kCols || first_col + own >= num_cols) return;
  float sum = 0;
  for (int i = 0; i < kRows; ++i) sum += partial[i][own];
  G& target = static_cast<G*>(args.sums)[std::int64_t{expert} * num_cols + first_col + own];
  target = from_f32<G>(args.beta == 0 ? sum : fmaf(args.beta, to_f32(target), sum));
}

__global__ void __launch_bounds__(kThreads)
    expert_row_products_kernel(const float* partials, int num_partials, const std::int32_t* ids,
                               std::int64_t num_rows, float* products) {
  const std::int64_t p = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (p >= num_rows) return;
  float sum = 0;
#pragma unroll 8
  for (int i = 0; i < num_partials; ++i) sum += partials[i * num_rows + p];
  products[ids[p]] = sum;
}

}  // namespace

std::int64_t row_pass_workspace_bytes(const RowPass& pass) {
  if (!pass.products) return 0;
  const std::int64_t partials = num_col_blocks(pass, fits(pass) ? kWidth : 1);
  return partials * pass.routing.num_rows() * std::int64_t{sizeof(float)};
}

void pass_over_rows(const Launch& launch, const char* op, const RowPass& pass) {
  const ConstMatrix& rows = pass.rows.rows;
  const std::int64_t num_rows = pass.routing.num_rows();
  auto* const partials = pass.products ? static_cast<float*>(pass.workspace) : nullptr;
  std::int64_t num_partials = 0;
  dispatch_storage(op, rows.dtype, [&](auto type) {
    dispatch_width(fits(pass), [&](auto width) {
      num_partials = num_col_blocks(pass, width);
      if (num_partials == 0) return;
      const Args args{.rows = rows,
                      .others = pass.others,
                      .index = RowIndex(pass.routing, pass.rows.layout, rows.rows),
                      .ids = pass.routing.sorted_scattered_ids,
                      .expert_offsets = pass.routing.expert_offsets,
                      .gates = pass.gates,
                      .gated = pass.gated,
                      .sums = pass.sums,
                      .partial_products = partials,
                      .num_rows = num_rows,
                      .beta = static_cast<float>(pass.beta)};
      const dim3 blocks(static_cast<unsigned>(pass.routing.num_experts),
                        static_cast<unsigned>(num_partials));
      dispatch_storage(op, pass.sums_dtype, [&](auto sums) {
        expert_rows_kernel<width, decltype(type), decltype(sums)>
            <<<blocks, kThreads, 0, stream_of(launch)>>>(args);
      });
    });
  });
  if (pass.products && num_rows > 0)
    expert_row_products_kernel<<<static_cast<unsigned>(ceil_div(num_rows, kThreads)), kThreads, 0,
                                 stream_of(launch)>>>(partials, static_cast<int>(num_partials),
                                                      pass.routing.sorted_scattered_ids, num_rows,
                                                      pass.products);
  check_launch(op);
}

}  // namespace smoe::kernels::cuda
