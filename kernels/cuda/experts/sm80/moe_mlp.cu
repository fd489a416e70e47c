// expert_up and expert_down_backward, sm80 form. A tile of gated units holds GLU columns and the up
// columns of the same units, so that a thread has both halves of each pre-activation.
#include "kernels/cuda/device/activation_functions.cuh"
#include "kernels/cuda/experts/portable_args.cuh"
#include "kernels/cuda/experts/sm80/grouped_mma.cuh"
#include "kernels/cuda/experts/sm80/warp_staging.cuh"

namespace smoe::kernels::cuda::sm80 {
namespace {

// The router gates of a warp's rows of a tile: two per lane, loaded during the mainloop.
class RowGates {
 public:
  template <class Args>
  __device__ void load(const Args& args, const TileCoord& tile, const WarpPosition& warp) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = tile.m_begin + warp.m * kWarpTile + i * 32 + threadIdx.x % 32;
      gates_[i] = row < tile.m_end ? args.gate(row) : 0.0f;
    }
  }
  /// Of a row of the upper or lower 32; 0 where there is none. Called by all lanes.
  __device__ float operator()(int half, int in_half) const {
    return __shfl_sync(~0u, gates_[half], in_half);
  }

 private:
  float gates_[2] = {0, 0};
};

template <bool kIsGated>
class Activate {
 public:
  using Args = ActivateArgs<Bf16>;
  static constexpr int staging_bytes() { return 2 * WarpStaging::kBytes; }

  __device__ Activate(const Args& args, const WarpPosition& warp, unsigned char* memory)
      : args_(args), warp_(warp), h_(memory), a_(memory + WarpStaging::kBytes) {}

  __device__ void prefetch(const TileCoord& tile) { gates_.load(args_, tile, warp_); }
  __device__ void store(const TileCoord& tile, const Accumulators& acc) const {
    dispatch_function<kIsGated>(args_.kind,
                                [&](auto function) { store_with<decltype(function)>(tile, acc); });
  }

 private:
  static constexpr int kCols = kIsGated ? kWarpTile / 2 : kWarpTile;  // units of a warp
  static constexpr int kUp = kIsGated ? 4 : 0;  // first fragment of the up half

  template <class Function>
  __device__ void store_with(const TileCoord& tile, const Accumulators& acc) const {
    const int n = tile.n_begin + warp_.n * kCols;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int m = tile.m_begin + warp_.m * kWarpTile + i * 16;
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
        const float gate = gates_(i / 2, i % 2 * 16 + lower * 8 + threadIdx.x % 32 / 4);
#pragma unroll
        for (int j = 0; j < kCols / 8; ++j) activate_pair<Function>(acc[i], lower, j, gate);
      }
      __syncwarp();
      if (args_.h)
        h_.for_each_chunk<8>([&](int row, int chunk, const uint4& value) {
          const int half = chunk * kChunk / kCols, col = n + chunk * kChunk % kCols;
          if (m + row < tile.m_end && col < args_.cols)
            *reinterpret_cast<uint4*>(args_.h + (m + row) * args_.h_stride + half * args_.cols +
                                      col) = value;
        });
      a_.for_each_chunk<kCols / kChunk>([&](int row, int chunk, const uint4& value) {
        const int col = n + chunk * kChunk;
        if (m + row < tile.m_end && col < args_.cols)
          *reinterpret_cast<uint4*>(args_.a + (m + row) * args_.a_stride + col) = value;
      });
      __syncwarp();
    }
  }

  template <class Function>
  __device__ void activate_pair(const float (&acc)[8][4], int lower, int j, float gate) const {
    const float(&first)[4] = acc[j], (&second)[4] = acc[j + kUp];
    const std::uint32_t h = pack_bf16(first[lower * 2], first[lower * 2 + 1]);
    const std::uint32_t h_up = pack_bf16(second[lower * 2], second[lower * 2 + 1]);
    h_.pair(lower, j) = h;
    if (kIsGated) h_.pair(lower, j + kUp) = h_up;
    const float2 glu = unpack_bf16(h), up = unpack_bf16(h_up);
    a_.pair(lower, j) = pack_bf16(activate<Bf16, Function, kIsGated>(glu.x, up.x, gate),
                                  activate<Bf16, Function, kIsGated>(glu.y, up.y, gate));
  }

  const Args& args_;
  WarpPosition warp_;
  WarpStaging h_, a_;
  RowGates gates_;
};

// h in slabs of 16 rows: three of the four slabs load during the mainloop, the last one during the
// epilogue of the first.
template <bool kIsGated>
class ActivateBackward {
 public:
  using Args = ActivateBackwardArgs<Bf16>;
  static constexpr int kHalves = kIsGated ? 2 : 1;
  static constexpr int kSlots = 3;
  static constexpr int staging_bytes() { return kSlots * kHalves * WarpStaging::kBytes; }

  __device__ ActivateBackward(const Args& args, const WarpPosition& warp, unsigned char* memory)
      : args_(args), warp_(warp), memory_(memory) {}

  __device__ void prefetch(const TileCoord& tile) {
    gates_.load(args_, tile, warp_);
#pragma unroll
    for (int i = 0; i < kSlots; ++i) load_h(tile, i);
  }
  __device__ void store(const TileCoord& tile, const Accumulators& acc) const {
    dispatch_function<kIsGated>(args_.kind,
                                [&](auto function) { store_with<decltype(function)>(tile, acc); });
  }

 private:
  // The GLU half of slab i, or its up half.
  __device__ WarpStaging staging(int i, int up) const {
    return WarpStaging(memory_ + (i % kSlots * kHalves + up) * WarpStaging::kBytes);
  }
  __device__ int row_of(const TileCoord& tile, int i) const {
    return tile.m_begin + warp_.m * kWarpTile + i * 16;
  }
  __device__ int col_of(const TileCoord& tile) const {
    return tile.n_begin + warp_.n * kWarpTile;
  }

  __device__ void load_h(const TileCoord& tile, int i) const {
    const int lane = threadIdx.x % 32, col = col_of(tile) + lane % 8 * kChunk;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int in_slab = k * 4 + lane / 8, row = row_of(tile, i) + in_slab;
      const bool exists = row < tile.m_end && col < args_.cols;
      const Bf16* const from = args_.h + (exists ? row * args_.h_stride + col : 0);
#pragma unroll
      for (int up = 0; up < kHalves; ++up)
        cp_async(shared_address(&staging(i, up).chunk(in_slab, lane % 8)),
                 from + (exists ? up * args_.cols : 0), exists);
    }
  }

  __device__ void store_slab(const TileCoord& tile, int i, const WarpStaging& from, Bf16* to,
                             std::int64_t stride) const {
    from.for_each_chunk<8>([&](int in_slab, int chunk, const uint4& value) {
      const int row = row_of(tile, i) + in_slab, col = col_of(tile) + chunk * kChunk;
      if (row < tile.m_end && col < args_.cols)
        *reinterpret_cast<uint4*>(to + row * stride + col) = value;
    });
  }

  template <class Function>
  __device__ void store_with(const TileCoord& tile, const Accumulators& acc) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const WarpStaging glu = staging(i, 0), up = staging(i, kHalves - 1);
      if (i % kSlots == 0) cp_async_wait_all();
      __syncwarp();
      std::uint32_t a[2][8];
#pragma unroll
      for (int lower = 0; lower < 2; ++lower)
        backward<Function>(tile, i, lower, acc[i], glu, up, a[lower]);
      __syncwarp();
      store_slab(tile, i, glu, args_.h, args_.h_stride);
      if (kIsGated) store_slab(tile, i, up, args_.h + args_.cols, args_.h_stride);
      __syncwarp();
#pragma unroll
      for (int lower = 0; lower < 2; ++lower)
#pragma unroll
        for (int j = 0; j < 8; ++j) glu.pair(lower, j) = a[lower][j];
      __syncwarp();
      store_slab(tile, i, glu, args_.a, args_.a_stride);
      __syncwarp();
      if (i + kSlots < 4) load_h(tile, i + kSlots);
    }
  }

  // A thread's elements of the upper or lower eight rows: h becomes dh in place, and a.
  template <class Function>
  __device__ void backward(const TileCoord& tile, int i, int lower, const float (&acc)[8][4],
                           const WarpStaging& glu_half, const WarpStaging& up_half,
                           std::uint32_t (&a)[8]) const {
    const int lane = threadIdx.x % 32, row = row_of(tile, i) + lane / 4 + lower * 8;
    const float gate = gates_(i / 2, i % 2 * 16 + lower * 8 + lane / 4);
    float dgate = 0;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float2 glu = unpack_bf16(glu_half.pair(lower, j));
      const float2 up = kIsGated ? unpack_bf16(up_half.pair(lower, j)) : float2{};
      const auto x =
          activate_backward<Bf16, Function, kIsGated>(glu.x, up.x, gate, acc[j][lower * 2]);
      const auto y =
          activate_backward<Bf16, Function, kIsGated>(glu.y, up.y, gate, acc[j][lower * 2 + 1]);
      glu_half.pair(lower, j) = pack_bf16(x.dglu, y.dglu);
      if (kIsGated) up_half.pair(lower, j) = pack_bf16(x.dup, y.dup);
      a[j] = pack_bf16(x.a, y.a);
      dgate += x.dgate + y.dgate;
    }
    dgate += __shfl_xor_sync(~0u, dgate, 1);
    dgate += __shfl_xor_sync(~0u, dgate, 2);
    if (row < tile.m_end && lane % 4 == 0 && col_of(tile) < args_.cols)
      args_.partial(row, col_of(tile) / kPartialCols) = dgate;
  }

  static_assert(kPartialCols == kWarpTile);

  const Args& args_;
  WarpPosition warp_;
  unsigned char* memory_;
  RowGates gates_;
};

template <class Shape, bool kIsGated>
using UpGemm =
    GroupedGemm<Shape, RoutedTileScheduler, RoutedRowsOperand<Shape::kTileM, Shape::kThreads>,
                WeightRowsOperand<Shape::kTileN, Shape::kThreads, kIsGated>, Activate<kIsGated>,
                kIsGated>;

template <class Shape, bool kIsGated>
using DownBackwardGemm =
    GroupedGemm<Shape, RoutedTileScheduler, RoutedRowsOperand<Shape::kTileM, Shape::kThreads>,
                WeightColumnsOperand<Shape::kTileN, Shape::kThreads>, ActivateBackward<kIsGated>>;

template <class P>
__global__ void __launch_bounds__(P::Shape::kThreads, P::Shape::kBlocksPerSm)
    expert_up_sm80_kernel(const __grid_constant__ typename P::Args args) {
  run_grouped_gemm<P>(args);
}

template <class P>
__global__ void __launch_bounds__(P::Shape::kThreads, P::Shape::kBlocksPerSm)
    expert_down_backward_sm80_kernel(const __grid_constant__ typename P::Args args) {
  run_grouped_gemm<P>(args);
}

}  // namespace

void expert_up(const Launch& launch, const ExpertUpArgs& args, const ExpertGemmConfig& config) {
  const auto run = [&](auto shape, auto gated) {
    using P = UpGemm<decltype(shape), decltype(gated)::value>;
    launch_persistent<P>(launch, "expert_up", config, expert_up_sm80_kernel<P>,
                         kernel_args<P, Bf16>(args, config));
  };
  dispatch_tile(config, [&](auto shape) {
    is_gated(args.kind) ? run(shape, std::true_type{}) : run(shape, std::false_type{});
  });
}

void expert_down_backward(const Launch& launch, const ExpertDownBackwardArgs& args,
                          const ExpertGemmConfig& config) {
  const auto run = [&](auto gated) {
    using P = DownBackwardGemm<Block128x128, decltype(gated)::value>;
    launch_persistent<P>(launch, "expert_down_backward", config,
                         expert_down_backward_sm80_kernel<P>, kernel_args<P, Bf16>(args, config));
  };
  is_gated(args.kind) ? run(std::true_type{}) : run(std::false_type{});
}

}  // namespace smoe::kernels::cuda::sm80
