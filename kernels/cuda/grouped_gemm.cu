// Grouped products, where those of kernels/cuda/hopper do not apply: tiles of one expert's rows,
// found from expert_offsets on the device; rows are gathered as a tile is loaded and scattered as
// it is stored.
#include "kernels/grouped_gemm.h"

#include <atomic>

#include "kernels/cuda/grouped/product_launch.cuh"
#include "kernels/cuda/grouped/staging.cuh"
#include "kernels/cuda/hopper/products.h"

namespace smoe::kernels::cuda {
namespace {

// y = sums + bias, rounded, each row where y's layout has it.
template <class T>
struct StoreArgs {
  T* y;
  std::int64_t stride;
  int cols;
  const std::int32_t* ids;  // of scattered rows, or null
  const T* bias;            // [E, cols], or null

  __device__ T* row(int m) const { return y + (ids ? __ldg(ids + m) : m) * stride; }
};

class StoreRows {
 public:
  using Args = StoreArgs<Bf16>;
  static constexpr int staging_bytes() { return Staging::kBytes; }

  __device__ StoreRows(const Args& args, const WarpPosition& warp, unsigned char* memory)
      : args_(args), warp_(warp), staging_(memory) {}

  __device__ void prefetch(const Work&) const {}
  __device__ void run(const Work& work, const Sums& sums) const {
    const int n = work.n_begin + warp_.n * kWarpTile;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int m = work.m_begin + warp_.m * kWarpTile + i * 16;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float2 bias = bias_of(work, n + j * 8);
#pragma unroll
        for (int lower = 0; lower < 2; ++lower)
          staging_.pair(lower, j) =
              pack_bf16(sums[i][j][lower * 2] + bias.x, sums[i][j][lower * 2 + 1] + bias.y);
      }
      __syncwarp();
      staging_.for_chunks<8>([&](int row, int chunk, const uint4& value) {
        const int col = n + chunk * kChunk;
        if (m + row < work.m_end && col < args_.cols)
          *reinterpret_cast<uint4*>(args_.row(m + row) + col) = value;
      });
      __syncwarp();
    }
  }

 private:
  // Of this thread's two of the eight columns from n on.
  __device__ float2 bias_of(const Work& work, int n) const {
    if (!args_.bias || n >= args_.cols) return {};
    return unpack_bf16(*reinterpret_cast<const std::uint32_t*>(
        args_.bias + std::int64_t{work.expert} * args_.cols + n + threadIdx.x % 4 * 2));
  }

  const Args& args_;
  WarpPosition warp_;
  Staging staging_;
};

template <class T>
struct PlainStoreRows {
  using Args = StoreArgs<T>;

  static __device__ void run(const Args& args, const Work& work, int m, int n,
                             const float (&sums)[8]) {
    T* const row = args.row(m);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int col = n + j % 4 + j / 4 * (kSimtTile / 2);
      if (col >= args.cols) continue;
      const float bias =
          args.bias ? to_f32(args.bias[std::int64_t{work.expert} * args.cols + col]) : 0.0f;
      row[col] = from_f32<T>(sums[j] + bias);
    }
  }
};

// dW = sums + beta dW.
struct GradientArgs {
  float* dweight;  // [E, rows, cols]
  int rows, cols;
  float beta;

  __device__ float* row(const Work& work, int m) const {
    return dweight + (std::int64_t{work.expert} * rows + m) * cols;
  }
};

// Two neighbours a thread, four threads beside one another: whole sectors.
class StoreGradient {
 public:
  using Args = GradientArgs;
  static constexpr int staging_bytes() { return 0; }

  __device__ StoreGradient(const Args& args, const WarpPosition& warp, unsigned char*)
      : args_(args), warp_(warp) {}

  __device__ void prefetch(const Work&) const {}
  __device__ void run(const Work& work, const Sums& sums) const {
    const int lane = threadIdx.x % 32;
    const int n = work.n_begin + warp_.n * kWarpTile + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
        const int m = work.m_begin + warp_.m * kWarpTile + i * 16 + lane / 4 + lower * 8;
        if (m >= work.m_end) continue;
        float* const row = args_.row(work, m) + n;
        float2 before[8] = {};
        if (args_.beta != 0) {
#pragma unroll
          for (int j = 0; j < 8; ++j)
            if (n + j * 8 < args_.cols) before[j] = *reinterpret_cast<const float2*>(row + j * 8);
        }
#pragma unroll
        for (int j = 0; j < 8; ++j)
          if (n + j * 8 < args_.cols)
            *reinterpret_cast<float2*>(row + j * 8) =
                float2{fmaf(args_.beta, before[j].x, sums[i][j][lower * 2]),
                       fmaf(args_.beta, before[j].y, sums[i][j][lower * 2 + 1])};
      }
  }

 private:
  const Args& args_;
  WarpPosition warp_;
};

struct PlainStoreGradient {
  using Args = GradientArgs;

  static __device__ void run(const Args& args, const Work& work, int m, int n,
                             const float (&sums)[8]) {
    float* const row = args.row(work, m);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int col = n + j % 4 + j / 4 * (kSimtTile / 2);
      if (col < args.cols) row[col] = args.beta == 0 ? sums[j] : fmaf(args.beta, row[col], sums[j]);
    }
  }
};

template <class Shape, bool kTranspose>
using RowProduct =
    TensorProduct<Shape, RowWalk, RoutedRowsOperand<Shape::kTileM, Shape::kThreads>,
                  std::conditional_t<kTranspose, WeightColsOperand<Shape::kTileN, Shape::kThreads>,
                                     WeightRowsOperand<Shape::kTileN, Shape::kThreads>>,
                  StoreRows>;

template <class T, bool kTranspose>
using PlainRowProduct =
    SimtProduct<RowWalk, SimtRoutedRows<T>,
                std::conditional_t<kTranspose, SimtWeightCols<T>, SimtWeightRows<T>>,
                PlainStoreRows<T>>;

template <class Shape>
using GradientProduct =
    TensorProduct<Shape, GradientWalk, RoutedColsOperand<Shape::kTileM, Shape::kThreads, true>,
                  RoutedColsOperand<Shape::kTileN, Shape::kThreads, false>, StoreGradient>;

template <class T>
using PlainGradientProduct = SimtProduct<GradientWalk, SimtRoutedCols<T, true>,
                                         SimtRoutedCols<T, false>, PlainStoreGradient>;

template <class P, class T>
typename P::Args row_product_args(const GroupedGemmArgs& args, const ProductConfig& config) {
  const auto tiles = static_cast<int>(ceil_div(args.y.cols, config.tile_cols));
  return {{args.routing.expert_offsets, static_cast<int>(args.routing.num_experts), tiles,
           static_cast<int>(args.x.rows.cols)},
          {static_cast<const T*>(args.x.rows.data),
           row_bytes(args.x.rows),
           {args.routing, args.x.layout, args.x.rows.rows}},
          {static_cast<const T*>(args.weight.data), args.weight.rows * args.weight.cols,
           row_bytes(args.weight[0]), static_cast<int>(args.y.cols)},
          {static_cast<T*>(args.y.data), args.y.stride, static_cast<int>(args.y.cols),
           args.y_layout == RowLayout::scattered ? args.routing.sorted_scattered_ids : nullptr,
           static_cast<const T*>(args.bias.data)}};
}

template <class P, class T>
typename P::Args gradient_args(const ExpertGradientArgs& args, const ProductConfig& config) {
  const ConstMatrix &dy = args.dy.rows, &x = args.x.rows;
  const auto operand = [&](const RoutedRows& rows) {
    return RowIndex(args.routing, rows.layout, rows.rows.rows);
  };
  return {
      {args.routing.expert_offsets, static_cast<int>(args.routing.num_experts),
       static_cast<int>(ceil_div(dy.cols, config.tile_rows)),
       static_cast<int>(ceil_div(x.cols, config.tile_cols)), static_cast<int>(dy.cols)},
      {static_cast<const T*>(dy.data), row_bytes(dy), static_cast<int>(dy.cols), operand(args.dy)},
      {static_cast<const T*>(x.data), row_bytes(x), static_cast<int>(x.cols), operand(args.x)},
      {static_cast<float*>(args.dweight), static_cast<int>(dy.cols), static_cast<int>(x.cols),
       static_cast<float>(args.beta)}};
}

template <bool kTranspose>
void run_row_product(const Launch& launch, const GroupedGemmArgs& args) {
  constexpr const char* kOp = "grouped_gemm";
  const ProductConfig config = choose_row_product(
      {args.x.rows.dtype, args.routing.num_rows(), args.y.cols, args.routing.num_experts,
       fits_width(args.x.rows) && fits_width(args.y) && fits_width(args.weight[0]) &&
           is_aligned(args.bias.data)},
      limits_of(launch));
  if (config.form == ProductForm::plain) {
    dispatch_storage(kOp, args.x.rows.dtype, [&](auto type) {
      using T = decltype(type);
      using P = PlainRowProduct<T, kTranspose>;
      launch_plain_product<P>(launch, kOp, config, row_product_args<P, T>(args, config));
    });
  } else {
    dispatch_shape<false>(config.form, [&](auto shape) {
      using P = RowProduct<decltype(shape), kTranspose>;
      launch_tensor_product<P>(launch, kOp, config, row_product_args<P, Bf16>(args, config));
    });
  }
}

// dW of the experts without rows, which no tile has.
__global__ void __launch_bounds__(256)
    scale_empty_experts_kernel(const std::int32_t* expert_offsets, float* dweight,
                               std::int64_t size, float beta) {
  const int expert = blockIdx.y;
  if (expert_offsets[expert] != expert_offsets[expert + 1]) return;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < size;
       i += std::int64_t{gridDim.x} * blockDim.x) {
    float& target = dweight[expert * size + i];
    target = beta == 0 ? 0.0f : beta * target;
  }
}

void scale_empty_experts(const Launch& launch, const ExpertGradientArgs& args) {
  const std::int64_t size = args.dy.rows.cols * args.x.rows.cols;
  if (args.beta == 1 || size == 0) return;
  constexpr std::int64_t kBlocks = 64;  // of an expert
  const dim3 blocks(static_cast<unsigned>(std::min(ceil_div(size, 256), kBlocks)),
                    static_cast<unsigned>(args.routing.num_experts));
  scale_empty_experts_kernel<<<blocks, 256, 0, stream_of(launch)>>>(
      args.routing.expert_offsets, static_cast<float*>(args.dweight), size,
      static_cast<float>(args.beta));
  check_launch("expert_gradient");
}

// Sums of an expert's rows: a block adds up 32 columns, eight rows at a time, then the eight.
template <class T>
__global__ void __launch_bounds__(256)
    bias_gradient_kernel(const T* dy, std::int64_t stride, int cols, RowIndex index,
                         const std::int32_t* expert_offsets, float* dbias, float beta) {
  constexpr int kCols = 32, kRows = 8;
  __shared__ float partial[kRows][kCols];
  const int lane = threadIdx.x % kCols, row = threadIdx.x / kCols;
  const int col = blockIdx.x * kCols + lane, expert = blockIdx.y;
  float sum = 0;
  if (col < cols)
    for (int p = expert_offsets[expert] + row; p < expert_offsets[expert + 1]; p += kRows)
      sum += to_f32(dy[index(p) * stride + col]);
  partial[row][lane] = sum;
  __syncthreads();
  if (row > 0 || col >= cols) return;
#pragma unroll
  for (int i = 1; i < kRows; ++i) sum += partial[i][lane];
  float& target = dbias[std::int64_t{expert} * cols + col];
  target = beta == 0 ? sum : fmaf(beta, target, sum);
}

template <int N, class T>
__global__ void __launch_bounds__(256)
    group_rows_kernel(RowIndex index, const std::int32_t* ids, ConstMatrix x, const float* gates,
                      Matrix grouped) {
  const std::int64_t chunks = grouped.cols / N;
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= grouped.rows * chunks) return;
  const auto p = static_cast<std::int32_t>(i / chunks);
  const std::int64_t col = i % chunks * N;
  const float gate = gates ? gates[ids[p]] : 1.0f;
  float values[N];
  load(static_cast<const T*>(x.data) + index(p) * x.stride + col, values);
#pragma unroll
  for (float& value : values) value *= gate;
  store(static_cast<T*>(grouped.data) + p * grouped.stride + col, values);
}

void run_gradient_product(const Launch& launch, const ExpertGradientArgs& args) {
  constexpr const char* kOp = "expert_gradient";
  const ConstMatrix &dy = args.dy.rows, &x = args.x.rows;
  const ProductConfig config =
      choose_gradient_product({x.dtype, dy.cols, x.cols, args.routing.num_experts,
                               fits_width(dy) && fits_width(x) && is_aligned(args.dweight)},
                              limits_of(launch));
  if (config.form == ProductForm::plain) {
    dispatch_storage(kOp, x.dtype, [&](auto type) {
      using P = PlainGradientProduct<decltype(type)>;
      launch_plain_product<P>(launch, kOp, config, gradient_args<P, decltype(type)>(args, config));
    });
  } else {
    dispatch_shape<false>(config.form, [&](auto shape) {
      using P = GradientProduct<decltype(shape)>;
      launch_tensor_product<P>(launch, kOp, config, gradient_args<P, Bf16>(args, config));
    });
  }
}

void run_bias_gradient(const Launch& launch, const ExpertGradientArgs& args) {
  const ConstMatrix& dy = args.dy.rows;
  if (!args.dbias || dy.cols == 0) return;
  const dim3 blocks(static_cast<unsigned>(ceil_div(dy.cols, 32)),
                    static_cast<unsigned>(args.routing.num_experts));
  dispatch_storage("expert_gradient", dy.dtype, [&](auto type) {
    bias_gradient_kernel<<<blocks, 256, 0, stream_of(launch)>>>(
        static_cast<const decltype(type)*>(dy.data), dy.stride, static_cast<int>(dy.cols),
        RowIndex(args.routing, args.dy.layout, dy.rows), args.routing.expert_offsets,
        static_cast<float*>(args.dbias), static_cast<float>(args.bias_beta));
  });
  check_launch("expert_gradient");
}

std::atomic<ProductPolicy> policy;

}  // namespace

void set_product_policy(const ProductPolicy& wanted) {
  policy = wanted;
}
bool hopper::is_enabled() {
  return policy.load().hopper;
}

std::string product_engine(const Launch& launch, std::int64_t num_experts,
                           const ConstMatrix& weight) {
  if (hopper::takes(launch, num_experts, weight)) return "wgmma";
  const bool is_aligned = weight.rows % kWidth == 0 && weight.cols % kWidth == 0;
  const ProductConfig config = choose_row_product(
      {weight.dtype, 1, weight.rows, num_experts, is_aligned}, limits_of(launch));
  return config.form == ProductForm::plain ? "multiply-adds" : "mma.sync";
}

std::int64_t grouped_gemm_workspace_bytes(const Launch&, const GroupedGemmArgs&) {
  return 0;
}

void grouped_gemm(const Launch& launch, const GroupedGemmArgs& args) {
  SMOE_INTERNAL_CHECK(
      args.x.rows.cols == (args.transpose_weight ? args.weight.rows : args.weight.cols) &&
          args.y.cols == (args.transpose_weight ? args.weight.cols : args.weight.rows) &&
          args.y.rows == args.routing.num_rows(),
      "grouped_gemm: x has ", args.x.rows.cols, " columns, weight [", args.weight.rows, ", ",
      args.weight.cols, "], y [", args.y.rows, ", ", args.y.cols, "]");
  SMOE_CHECK(args.weight.dtype == args.x.rows.dtype && args.y.dtype == args.x.rows.dtype &&
                 (!args.bias.data || args.bias.dtype == args.x.rows.dtype),
             "grouped_gemm: on a GPU x, weight, bias and y must have one dtype; got ",
             name_of(args.x.rows.dtype), ", ", name_of(args.weight.dtype), ", ",
             name_of(args.bias.data ? args.bias.dtype : args.x.rows.dtype), " and ",
             name_of(args.y.dtype));
  if (hopper::takes(launch, args)) return hopper::grouped_gemm(launch, args);
  args.transpose_weight ? run_row_product<true>(launch, args)
                        : run_row_product<false>(launch, args);
}

std::int64_t expert_gradient_workspace_bytes(const Launch& launch, const ExpertGradientArgs& args) {
  return hopper::takes(launch, args) ? hopper::kTicketBytes : 0;
}

void expert_gradient(const Launch& launch, const ExpertGradientArgs& args) {
  const DType dy = args.dy.rows.dtype, x = args.x.rows.dtype;
  SMOE_CHECK(dy == x, "expert_gradient: on a GPU dy and x must have one dtype; got ", name_of(dy),
             " and ", name_of(x));
  scale_empty_experts(launch, args);
  hopper::takes(launch, args) ? hopper::expert_gradient(launch, args)
                              : run_gradient_product(launch, args);
  run_bias_gradient(launch, args);
}

void group(const Launch& launch, const GroupArgs& args) {
  if (args.grouped.rows * args.grouped.cols == 0) return;
  const RowIndex index(args.routing, RowLayout::scattered, args.x.rows);
  dispatch_storage("group", args.x.dtype, [&](auto type) {
    dispatch_width(fits_width(args.x) && fits_width(args.grouped), [&](auto width) {
      const std::int64_t threads = args.grouped.rows * args.grouped.cols / width;
      group_rows_kernel<width, decltype(type)>
          <<<static_cast<unsigned>(ceil_div(threads, 256)), 256, 0, stream_of(launch)>>>(
              index, args.routing.sorted_scattered_ids, args.x,
              static_cast<const float*>(args.gates), args.grouped);
    });
  });
  check_launch("group");
}

}  // namespace smoe::kernels::cuda
