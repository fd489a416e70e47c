// expert_up and expert_down_backward, SIMT form. A tile of gated units holds 64 GLU columns and the
// up columns of the same units, so that a thread has both halves of each pre-activation.
#include "kernels/cuda/device/activation_functions.cuh"
#include "kernels/cuda/experts/portable_args.cuh"
#include "kernels/cuda/experts/simt/grouped_ffma.cuh"

namespace smoe::kernels::cuda::simt {
namespace {

template <class T, bool kIsGated>
struct Activate {
  using Args = ActivateArgs<T>;

  static __device__ void run(const Args& args, const TileCoord&, int m, int n,
                             const float (&acc)[8]) {
    const float gate = args.gate(m);
    dispatch_function<kIsGated>(args.kind, [&](auto function) {
      using Function = decltype(function);
#pragma unroll
      for (int j = 0; j < (kIsGated ? 4 : 8); ++j) {
        const int col = column_of(n, j);
        if (col >= args.cols) continue;
        const T glu = from_f32<T>(acc[j]);
        const T up = kIsGated ? from_f32<T>(acc[(j + 4) % 8]) : glu;
        if (args.h) {
          args.h[m * args.h_stride + col] = glu;
          if (kIsGated) args.h[m * args.h_stride + args.cols + col] = up;
        }
        args.a[m * args.a_stride + col] =
            from_f32<T>(activate<T, Function, kIsGated>(to_f32(glu), to_f32(up), gate));
      }
    });
  }
};

template <class T, bool kIsGated>
struct ActivateBackward {
  using Args = ActivateBackwardArgs<T>;
  static_assert(kPartialCols == kTile / 2);

  static __device__ void run(const Args& args, const TileCoord&, int m, int n,
                             const float (&acc)[8]) {
    const float gate = args.gate(m);
    float dgate[2] = {0, 0};  // of each kPartialCols columns
    dispatch_function<kIsGated>(args.kind, [&](auto function) {
      using Function = decltype(function);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const int col = column_of(n, j);
        if (col >= args.cols) continue;
        T* const h = args.h + m * args.h_stride + col;
        const auto gradient = activate_backward<T, Function, kIsGated>(
            to_f32(h[0]), kIsGated ? to_f32(h[args.cols]) : 0.0f, gate, acc[j]);
        h[0] = from_f32<T>(gradient.dglu);
        if (kIsGated) h[args.cols] = from_f32<T>(gradient.dup);
        args.a[m * args.a_stride + col] = from_f32<T>(gradient.a);
        dgate[j / 4] += gradient.dgate;
      }
    });
    // Sixteen threads share a row of the tile.
    const unsigned row_mask = 0xffffu << (threadIdx.x & 16);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int distance = 8; distance > 0; distance /= 2)
        dgate[half] += __shfl_xor_sync(row_mask, dgate[half], distance);
      const int col = n + half * kPartialCols;
      if (threadIdx.x % 16 == 0 && col < args.cols)
        args.partial(m, col / kPartialCols) = dgate[half];
    }
  }
};

template <class T, bool kIsGated>
using UpGemm = GroupedGemm<RoutedTileScheduler, RoutedRowsOperand<T>,
                           WeightRowsOperand<T, kIsGated>, Activate<T, kIsGated>, kIsGated>;

template <class T, bool kIsGated>
using DownBackwardGemm = GroupedGemm<RoutedTileScheduler, RoutedRowsOperand<T>,
                                     WeightColumnsOperand<T>, ActivateBackward<T, kIsGated>>;

template <class P>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    expert_up_simt_kernel(const __grid_constant__ typename P::Args args) {
  run_grouped_gemm<P>(args);
}

template <class P>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    expert_down_backward_simt_kernel(const __grid_constant__ typename P::Args args) {
  run_grouped_gemm<P>(args);
}

}  // namespace

void expert_up(const Launch& launch, const ExpertUpArgs& args, const ExpertGemmConfig& config) {
  constexpr const char* kOp = "expert_up";
  const auto run = [&](auto type, auto gated) {
    using T = decltype(type);
    using P = UpGemm<T, decltype(gated)::value>;
    launch_persistent(launch, kOp, config, expert_up_simt_kernel<P>,
                      kernel_args<P, T>(args, config));
  };
  dispatch_storage(kOp, args.a.dtype, [&](auto type) {
    is_gated(args.kind) ? run(type, std::true_type{}) : run(type, std::false_type{});
  });
}

void expert_down_backward(const Launch& launch, const ExpertDownBackwardArgs& args,
                          const ExpertGemmConfig& config) {
  constexpr const char* kOp = "expert_down_backward";
  const auto run = [&](auto type, auto gated) {
    using T = decltype(type);
    using P = DownBackwardGemm<T, decltype(gated)::value>;
    launch_persistent(launch, kOp, config, expert_down_backward_simt_kernel<P>,
                      kernel_args<P, T>(args, config));
  };
  dispatch_storage(kOp, args.a.dtype, [&](auto type) {
    is_gated(args.kind) ? run(type, std::true_type{}) : run(type, std::false_type{});
  });
}

}  // namespace smoe::kernels::cuda::simt
