// expert_down_backward for compute capability 9.0: da = W2^T dout; h becomes dh, a is recomputed,
// and each row's gate gradient is reduced over the tile's 256 columns.
//
// Grid:      one persistent block per SM, clusters of 2, 384 threads; dout is gathered by cp.async;
//            roles and registers as in grouped_wgmma.cuh.
// Shared:    3 stages (144 KiB); per consumer two slots of h (GLU and up sub-tiles, 16 KiB each)
// and
//            one sub-tile of a (8 KiB).
// Epilogue:  sub-tiles of 64 columns in turn: h arrives by TMA in one of two slots, becomes dh in
//            place and is stored over h. In an expert's last rows it also reads rows that another
//            block may be writing, and uses none of them.
#include "kernels/ceil_div.h"
#include "kernels/cuda/device/activation_functions.cuh"
#include "kernels/cuda/experts/epilogue_args.cuh"
#include "kernels/cuda/experts/forms.h"
#include "kernels/cuda/experts/sm90/epilogue.cuh"
#include "kernels/cuda/experts/sm90/grouped_wgmma.cuh"
#include "kernels/cuda/experts/sm90/launch.cuh"

namespace smoe::kernels::cuda::sm90 {
namespace {

template <class Function, bool kIsGated>
class ActivateBackward {
 public:
  struct Args {
    CUtensorMap h_map, a_map;
    ActivateBackwardArgs<Bf16> out;
  };
  static constexpr int kHalves = kIsGated ? 2 : 1;
  static constexpr int kSlotBytes = kHalves * kSubtileBytes;
  static constexpr int kBytes = 2 * kSlotBytes + kSubtileBytes;
  static constexpr int kSubtiles = kBlockN / 64;
  static_assert(kBlockN == kSm90PartialCols);

  __device__ ActivateBackward(const Args& args, int consumer, std::uint32_t memory,
                              std::uint32_t barriers)
      : args_(args), out_(args.out), consumer_(consumer), memory_(memory), barriers_(barriers) {}

  __device__ void begin(const ConsumerTile& tile) {
    for (int i = 0; i < 2; ++i)
      gates_[i] = row() + 8 * i < tile.num_rows ? out_.gate(tile.row + row() + 8 * i) : 0;
  }
  // After the first wgmmas are issued, because it waits for the previous tile's stores.
  __device__ void prefetch(const ConsumerTile& tile) const {
    if (threadIdx.x % kWarpgroup > 0) return;
    tma_store_wait_read<0>();
    for (int subtile = 0; subtile < 2; ++subtile) load_h(tile, subtile);
  }

  __device__ void store(const ConsumerTile& tile, const Accumulators& acc) const {
    const bool is_first = threadIdx.x % kWarpgroup == 0;
    float dgates[2] = {};
#pragma unroll
    for (int subtile = 0; subtile < kSubtiles; ++subtile) {
      const std::uint32_t h = slot(subtile), a = memory_ + 2 * kSlotBytes;
      if (is_first) tma_store_wait_read<0>();  // of a
      mbarrier_wait(barrier(subtile), subtile / 2 % 2);
      warpgroup_sync(consumer_);
      backward(acc, subtile, h, a, dgates);
      fence_proxy_async();
      warpgroup_sync(consumer_);
      const int col = tile.col_tile * kBlockN + subtile * 64;
      if (tile.num_rows >= 64) {
        if (is_first) {
          for (int half = 0; half < kHalves; ++half)
            tma_store(args_.h_map, h + half * kSubtileBytes, {col, half, tile.row});
          tma_store(args_.a_map, a, {col, tile.row, 0});
          tma_store_commit();
        }
      } else {
        for (int half = 0; half < kHalves; ++half)
          store_rows(tile, h + half * kSubtileBytes, out_.h + half * out_.cols, out_.h_stride, col);
        store_rows(tile, a, out_.a, out_.a_stride, col);
        fence_proxy_async();
        warpgroup_sync(consumer_);
      }
      if (subtile < 2 && is_first) {
        tma_store_wait_read<0>();
        load_h(tile, subtile + 2);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float dgate = dgates[i];
      dgate += __shfl_xor_sync(~0u, dgate, 1);
      dgate += __shfl_xor_sync(~0u, dgate, 2);
      const int in_tile = row() + 8 * i;
      if (threadIdx.x % 4 == 0 && in_tile < tile.num_rows)
        out_.partial(tile.row + in_tile, tile.col_tile) = dgate;
    }
  }
  __device__ void finish() const {
    if (threadIdx.x % kWarpgroup == 0) tma_store_wait();
  }

 private:
  // The upper of this thread's two rows of the tile.
  static __device__ int row() {
    const int thread = threadIdx.x % kWarpgroup;
    return thread / 32 * 16 + thread % 32 / 4;
  }
  __device__ std::uint32_t slot(int subtile) const {
    return memory_ + subtile % 2 * kSlotBytes;
  }
  __device__ std::uint32_t barrier(int subtile) const {
    return barriers_ + subtile % 2 * 8;
  }

  __device__ void load_h(const ConsumerTile& tile, int subtile) const {
    mbarrier_arrive_expect_tx(barrier(subtile), kSlotBytes);
    for (int half = 0; half < kHalves; ++half)
      tma_load(slot(subtile) + half * kSubtileBytes, args_.h_map, barrier(subtile),
               {tile.col_tile * kBlockN + subtile * 64, half, tile.row});
  }

  __device__ void backward(const Accumulators& acc, int subtile, std::uint32_t h, std::uint32_t a,
                           float (&dgates)[2]) const {
    std::uint32_t glu_words[4][4], up_words[4][4];  // all loaded first: the arithmetic overlaps
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      ldmatrix_x4<false>(h + matrices_offset(pair), glu_words[pair]);
      if (kIsGated) ldmatrix_x4<false>(h + kSubtileBytes + matrices_offset(pair), up_words[pair]);
    }
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      std::uint32_t activated[4];
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        const int i = accumulator_index(subtile, pair, word);
        const float2 glu = unpack_bf16(glu_words[pair][word]);
        const float2 up = kIsGated ? unpack_bf16(up_words[pair][word]) : float2{};
        const float gate = gates_[word % 2];
        const auto x = activate_backward<Bf16, Function, kIsGated>(glu.x, up.x, gate, acc[i]);
        const auto y = activate_backward<Bf16, Function, kIsGated>(glu.y, up.y, gate, acc[i + 1]);
        glu_words[pair][word] = pack_bf16(x.dglu, y.dglu);
        if (kIsGated) up_words[pair][word] = pack_bf16(x.dup, y.dup);
        activated[word] = pack_bf16(x.a, y.a);
        dgates[word % 2] += x.dgate + y.dgate;
      }
      stmatrix_x4<false>(a + matrices_offset(pair), activated);
      stmatrix_x4<false>(h + matrices_offset(pair), glu_words[pair]);
      if (kIsGated) stmatrix_x4<false>(h + kSubtileBytes + matrices_offset(pair), up_words[pair]);
    }
  }

  __device__ void store_rows(const ConsumerTile& tile, std::uint32_t subtile, Bf16* to,
                             std::int64_t stride, int first_col) const {
    for_each_chunk(subtile, tile.num_rows, [&](int row, int chunk, const uint4& value) {
      const int col = first_col + chunk * 8;
      if (col < out_.cols) *reinterpret_cast<uint4*>(to + (tile.row + row) * stride + col) = value;
    });
  }

  const Args& args_;
  const ActivateBackwardArgs<Bf16>& out_;
  int consumer_;
  std::uint32_t memory_, barriers_;
  float gates_[2] = {};  // of this thread's rows
};

template <class Function, bool kIsGated>
using Gemm = GroupedGemm<true, WeightTile::columns, sm90_stages(ExpertGemm::down_backward),
                         ActivateBackward<Function, kIsGated>>;

template <class P>
__global__ void __launch_bounds__(kThreads, 1)
    expert_down_backward_sm90_kernel(const __grid_constant__ typename P::Args args) {
  run_grouped_gemm<P>(args);
}

template <class Function, bool kIsGated>
void run(const Launch& launch, const ExpertDownBackwardArgs& args, const ExpertGemmConfig& config) {
  constexpr const char* kOp = "expert_down_backward";
  using P = Gemm<Function, kIsGated>;
  const std::int64_t f = args.a.cols, num_experts = args.routing.num_experts;
  const auto num_partials = static_cast<int>(config.num_partials(f));
  const typename P::Args kernel_args{
      .a = {},
      .weight = weight_map(kOp, args.w2, num_experts, args.w2.rows, 64),
      .expert_offsets = args.routing.expert_offsets,
      .num_experts = static_cast<int>(num_experts),
      .col_tiles = static_cast<int>(ceil_div(f, P::kTileCols)),
      .k = static_cast<int>(args.dout.cols),
      .rows = static_cast<const Bf16*>(args.dout.data),
      .row_bytes = row_bytes(args.dout),
      .index = RowIndex(args.routing, RowLayout::scattered, args.dout.rows),
      .epilogue = {.h_map = halves_map(kOp, args.h, kIsGated ? 2 : 1),
                   .a_map = matrix_map(kOp, args.a, 64),
                   .out = activate_backward_args<Bf16>(args, num_partials)}};
  launch_clusters(launch, kOp, expert_down_backward_sm90_kernel<P>, P::kSharedBytes, kernel_args);
}

}  // namespace

void expert_down_backward(const Launch& launch, const ExpertDownBackwardArgs& args,
                          const ExpertGemmConfig& config) {
  dispatch_kind(args.kind, [&](auto function, auto is_gated) {
    run<decltype(function), is_gated>(launch, args, config);
  });
}

}  // namespace smoe::kernels::cuda::sm90
