// grouped_gemm and the weight gradient, SIMT form.
#include "kernels/cuda/experts/portable_args.cuh"
#include "kernels/cuda/experts/simt/grouped_ffma.cuh"

namespace smoe::kernels::cuda::simt {
namespace {

template <class T>
struct StoreRows {
  using Args = StoreRowsArgs<T>;

  static __device__ void run(const Args& args, const TileCoord& tile, int m, int n,
                             const float (&acc)[8]) {
    T* const row = args.row(m);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int col = column_of(n, j);
      if (col >= args.cols) continue;
      const float bias =
          args.bias ? to_f32(args.bias[std::int64_t{tile.expert} * args.cols + col]) : 0.0f;
      row[col] = from_f32<T>(acc[j] + bias);
    }
  }
};

template <class G>
struct StoreGradient {
  using Gradient = G;
  using Args = WeightGradientArgs<G>;

  static __device__ void run(const Args& args, const TileCoord& tile, int m, int n,
                             const float (&acc)[8]) {
    G* const row = args.row(tile.expert, m);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int col = column_of(n, j);
      if (col < args.cols)
        row[col] = from_f32<G>(args.beta == 0 ? acc[j] : fmaf(args.beta, to_f32(row[col]), acc[j]));
    }
  }
};

template <class T, bool kTranspose>
using RoutedGemm =
    GroupedGemm<RoutedTileScheduler, RoutedRowsOperand<T>,
                std::conditional_t<kTranspose, WeightColumnsOperand<T>, WeightRowsOperand<T>>,
                StoreRows<T>>;

template <class T, class G>
using WeightGradientGemm = GroupedGemm<WeightGradientTileScheduler, RoutedColumnsOperand<T, true>,
                                       RoutedColumnsOperand<T, false>, StoreGradient<G>>;

template <class P>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    grouped_gemm_simt_kernel(const __grid_constant__ typename P::Args args) {
  run_grouped_gemm<P>(args);
}

template <class P>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    expert_weight_gradient_simt_kernel(const __grid_constant__ typename P::Args args) {
  run_grouped_gemm<P>(args);
}

}  // namespace

void grouped_gemm(const Launch& launch, const GroupedGemmArgs& args,
                  const ExpertGemmConfig& config) {
  constexpr const char* kOp = "grouped_gemm";
  const auto run = [&](auto type, auto transpose) {
    using T = decltype(type);
    using P = RoutedGemm<T, decltype(transpose)::value>;
    launch_persistent(launch, kOp, config, grouped_gemm_simt_kernel<P>,
                      kernel_args<P, T>(args, config));
  };
  dispatch_storage(kOp, args.x.rows.dtype, [&](auto type) {
    args.transpose_weight ? run(type, std::true_type{}) : run(type, std::false_type{});
  });
}

void weight_gradient(const Launch& launch, const ExpertGradientArgs& args,
                     const ExpertGemmConfig& config) {
  constexpr const char* kOp = "expert_gradient";
  dispatch_storage(kOp, args.x.rows.dtype, [&](auto type) {
    using T = decltype(type);
    dispatch_storage(kOp, args.dtype, [&](auto gradient) {
      using P = WeightGradientGemm<T, decltype(gradient)>;
      launch_persistent(launch, kOp, config, expert_weight_gradient_simt_kernel<P>,
                        kernel_args<P, T>(args, config));
    });
  });
}

}  // namespace smoe::kernels::cuda::simt
