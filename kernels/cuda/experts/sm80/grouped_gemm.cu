// grouped_gemm and the weight gradient, sm80 form.
#include "kernels/cuda/experts/portable_args.cuh"
#include "kernels/cuda/experts/sm80/grouped_mma.cuh"
#include "kernels/cuda/experts/sm80/warp_staging.cuh"

namespace smoe::kernels::cuda::sm80 {
namespace {

class StoreRows {
 public:
  using Args = StoreRowsArgs<Bf16>;
  static constexpr int staging_bytes() { return WarpStaging::kBytes; }

  __device__ StoreRows(const Args& args, const WarpPosition& warp, unsigned char* memory)
      : args_(args), warp_(warp), staging_(memory) {}

  __device__ void prefetch(const TileCoord&) const {}
  __device__ void store(const TileCoord& tile, const Accumulators& acc) const {
    const int n = tile.n_begin + warp_.n * kWarpTile;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int m = tile.m_begin + warp_.m * kWarpTile + i * 16;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float2 bias = load_bias(tile, n + j * 8);
#pragma unroll
        for (int lower = 0; lower < 2; ++lower)
          staging_.pair(lower, j) =
              pack_bf16(acc[i][j][lower * 2] + bias.x, acc[i][j][lower * 2 + 1] + bias.y);
      }
      __syncwarp();
      staging_.for_each_chunk<8>([&](int row, int chunk, const uint4& value) {
        const int col = n + chunk * kChunk;
        if (m + row < tile.m_end && col < args_.cols)
          *reinterpret_cast<uint4*>(args_.row(m + row) + col) = value;
      });
      __syncwarp();
    }
  }

 private:
  // This thread's two of the eight columns from n on.
  __device__ float2 load_bias(const TileCoord& tile, int n) const {
    if (!args_.bias || n >= args_.cols) return {};
    return unpack_bf16(*reinterpret_cast<const std::uint32_t*>(
        args_.bias + std::int64_t{tile.expert} * args_.cols + n + threadIdx.x % 4 * 2));
  }

  const Args& args_;
  WarpPosition warp_;
  WarpStaging staging_;
};

__device__ float2 load_pair(const float* p) {
  return *reinterpret_cast<const float2*>(p);
}
__device__ float2 load_pair(const Bf16* p) {
  return unpack_bf16(*reinterpret_cast<const std::uint32_t*>(p));
}
__device__ void store_pair(float* p, float2 pair) {
  *reinterpret_cast<float2*>(p) = pair;
}
__device__ void store_pair(Bf16* p, float2 pair) {
  *reinterpret_cast<std::uint32_t*>(p) = pack_bf16(pair.x, pair.y);
}

// Two neighbors per thread and four adjacent threads: of f32 whole 32-byte sectors.
template <class G>
class StoreGradient {
 public:
  using Gradient = G;
  using Args = WeightGradientArgs<G>;
  static constexpr int staging_bytes() { return 0; }

  __device__ StoreGradient(const Args& args, const WarpPosition& warp, unsigned char*)
      : args_(args), warp_(warp) {}

  __device__ void prefetch(const TileCoord&) const {}
  __device__ void store(const TileCoord& tile, const Accumulators& acc) const {
    const int lane = threadIdx.x % 32;
    const int n = tile.n_begin + warp_.n * kWarpTile + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
        const int m = tile.m_begin + warp_.m * kWarpTile + i * 16 + lane / 4 + lower * 8;
        if (m >= tile.m_end) continue;
        G* const row = args_.row(tile.expert, m) + n;
        float2 before[8] = {};
        if (args_.beta != 0) {
#pragma unroll
          for (int j = 0; j < 8; ++j)
            if (n + j * 8 < args_.cols) before[j] = load_pair(row + j * 8);
        }
#pragma unroll
        for (int j = 0; j < 8; ++j)
          if (n + j * 8 < args_.cols)
            store_pair(row + j * 8,
                       float2{fmaf(args_.beta, before[j].x, acc[i][j][lower * 2]),
                              fmaf(args_.beta, before[j].y, acc[i][j][lower * 2 + 1])});
      }
  }

 private:
  const Args& args_;
  WarpPosition warp_;
};

template <class Shape, bool kTranspose>
using RoutedGemm =
    GroupedGemm<Shape, RoutedTileScheduler, RoutedRowsOperand<Shape::kTileM, Shape::kThreads>,
                std::conditional_t<kTranspose, WeightColumnsOperand<Shape::kTileN, Shape::kThreads>,
                                   WeightRowsOperand<Shape::kTileN, Shape::kThreads>>,
                StoreRows>;

template <class Shape, class G>
using WeightGradientGemm =
    GroupedGemm<Shape, WeightGradientTileScheduler,
                RoutedColumnsOperand<Shape::kTileM, Shape::kThreads, true>,
                RoutedColumnsOperand<Shape::kTileN, Shape::kThreads, false>, StoreGradient<G>>;

template <class P>
__global__ void __launch_bounds__(P::Shape::kThreads, P::Shape::kBlocksPerSm)
    grouped_gemm_sm80_kernel(const __grid_constant__ typename P::Args args) {
  run_grouped_gemm<P>(args);
}

template <class P>
__global__ void __launch_bounds__(P::Shape::kThreads, P::Shape::kBlocksPerSm)
    expert_weight_gradient_sm80_kernel(const __grid_constant__ typename P::Args args) {
  run_grouped_gemm<P>(args);
}

}  // namespace

void grouped_gemm(const Launch& launch, const GroupedGemmArgs& args,
                  const ExpertGemmConfig& config) {
  const auto run = [&](auto shape, auto transpose) {
    using P = RoutedGemm<decltype(shape), decltype(transpose)::value>;
    launch_persistent<P>(launch, "grouped_gemm", config, grouped_gemm_sm80_kernel<P>,
                         kernel_args<P, Bf16>(args, config));
  };
  dispatch_tile(config, [&](auto shape) {
    args.transpose_weight ? run(shape, std::true_type{}) : run(shape, std::false_type{});
  });
}

void weight_gradient(const Launch& launch, const ExpertGradientArgs& args,
                     const ExpertGemmConfig& config) {
  constexpr const char* kOp = "expert_gradient";
  dispatch_storage(kOp, args.dtype, [&](auto gradient) {
    dispatch_tile(config, [&](auto shape) {
      using P = WeightGradientGemm<decltype(shape), decltype(gradient)>;
      launch_persistent<P>(launch, kOp, config, expert_weight_gradient_sm80_kernel<P>,
                           kernel_args<P, Bf16>(args, config));
    });
  });
}

}  // namespace smoe::kernels::cuda::sm80
