// expert_up for compute capability 9.0: h = W1 x, a = gate * act(h).
//
// Grid:      one persistent block per SM, clusters of 2, 384 threads; x is gathered by cp.async;
//            roles and registers as in grouped_wgmma.cuh.
// Tile:      gated units have 128 GLU columns and the 128 up columns of the same units in one tile,
//            so that a thread holds both halves of every pre-activation it activates.
// Shared:    4 stages (192 KiB); per consumer two 64 x 64 bf16 sub-tiles (16 KiB).
// Epilogue:  two sub-tiles at a time. Gated: GLU and up of h's first sub-tile; both of a, computed
//            while TMA reads those; then h's second. Plain: a and h of the same sub-tile.
#include "kernels/ceil_div.h"
#include "kernels/cuda/device/activation_functions.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/experts/epilogue_args.cuh"
#include "kernels/cuda/experts/forms.h"
#include "kernels/cuda/experts/sm90/epilogue.cuh"
#include "kernels/cuda/experts/sm90/grouped_wgmma.cuh"
#include "kernels/cuda/experts/sm90/launch.cuh"

namespace smoe::kernels::cuda::sm90 {
namespace {

template <class Function, bool kIsGated>
class Activate {
 public:
  struct Args {
    CUtensorMap h_map, a_map;
    ActivateArgs<Bf16> out;
  };
  static constexpr int kBytes = 2 * kSubtileBytes;
  static constexpr int kUnits = kIsGated ? kBlockN / 2 : kBlockN;  // per tile

  __device__ Activate(const Args& args, int consumer, std::uint32_t memory, std::uint32_t)
      : args_(args), out_(args.out), consumer_(consumer), memory_(memory) {}

  __device__ void begin(const ConsumerTile& tile) {
    const int thread = threadIdx.x % kWarpgroup;
    const int row = thread / 32 * 16 + thread % 32 / 4;
    for (int i = 0; i < 2; ++i)
      ids_[i] = row + 8 * i < tile.num_rows ? __ldg(out_.ids + tile.row + row + 8 * i) : 0;
  }
  // Under the first wgmmas: the ids have arrived, and the gates will by the epilogue.
  __device__ void prefetch(const ConsumerTile&) {
    for (int i = 0; i < 2; ++i) gates_[i] = out_.gates[ids_[i]];
  }

  __device__ void store(const ConsumerTile& tile, const Accumulators& acc) const {
    const int col = tile.col_tile * kUnits;
    if constexpr (kIsGated) {
      write_h(tile, acc, 0);
      const Destination first{Target::a, col}, second{Target::a, col + 64};
      // GELU has no registers left to compute a before there is memory to write it to.
      if constexpr (std::is_same_v<Function, Silu>) {
        std::uint32_t a[2][4][4];
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
          for (int pair = 0; pair < 4; ++pair)
#pragma unroll
            for (int word = 0; word < 4; ++word) a[i][pair][word] = activated(acc, i, pair, word);
        write_both(
            tile, [&](int i, int pair, int word) { return a[i][pair][word]; }, first, second);
      } else {
        write_both(
            tile, [&](int i, int pair, int word) { return activated(acc, i, pair, word); }, first,
            second);
      }
      write_h(tile, acc, 1);
    } else {
#pragma unroll
      for (int subtile = 0; subtile < 4; ++subtile)
        write_both(tile,
                   [&](int i, int pair, int word) {
                     return i == 0 ? activated(acc, subtile, pair, word)
                                   : rounded(acc, subtile, pair, word);
                   },
                   {Target::a, col + subtile * 64},
                   {out_.h ? Target::h : Target::none, col + subtile * 64});
    }
  }
  __device__ void finish() const {
    if (threadIdx.x % kWarpgroup == 0) tma_store_wait();
  }

 private:
  enum class Target { none, a, h, h_up };
  struct Destination {
    Target target;
    int col;
  };

  static __device__ std::uint32_t rounded(const Accumulators& acc, int subtile, int pair,
                                          int word) {
    const int i = accumulator_index(subtile, pair, word);
    return pack_bf16(acc[i], acc[i + 1]);
  }
  // From the rounded h.
  __device__ std::uint32_t activated(const Accumulators& acc, int subtile, int pair,
                                     int word) const {
    const float2 h = unpack_bf16(rounded(acc, subtile, pair, word));
    const float2 up = kIsGated ? unpack_bf16(rounded(acc, subtile + 2, pair, word)) : float2{};
    const float gate = gates_[word % 2];
    return pack_bf16(activate<Bf16, Function, kIsGated>(h.x, up.x, gate),
                     activate<Bf16, Function, kIsGated>(h.y, up.y, gate));
  }

  // GLU and up of a sub-tile of gated units.
  __device__ void write_h(const ConsumerTile& tile, const Accumulators& acc, int subtile) const {
    if (!out_.h) return;
    const int col = tile.col_tile * kUnits + subtile * 64;
    write_both(tile,
               [&](int i, int pair, int word) { return rounded(acc, subtile + 2 * i, pair, word); },
               {Target::h, col}, {Target::h_up, col});
  }

  // Writes and stores the sub-tiles of words(0, ...) and words(1, ...).
  template <class F>
  __device__ void write_both(const ConsumerTile& tile, F&& words, Destination first,
                             Destination second) const {
    const bool is_first = threadIdx.x % kWarpgroup == 0;
    if (is_first) tma_store_wait_read<0>();
    warpgroup_sync(consumer_);
    write_subtile(memory_, [&](int pair, int word) { return words(0, pair, word); });
    write_subtile(memory_ + kSubtileBytes,
                  [&](int pair, int word) { return words(1, pair, word); });
    if (tile.num_rows >= 64) {
      fence_proxy_async();
      warpgroup_sync(consumer_);
      if (!is_first) return;
      store_by_tma(tile, memory_, first);
      store_by_tma(tile, memory_ + kSubtileBytes, second);
      tma_store_commit();
    } else {
      warpgroup_sync(consumer_);
      store_by_rows(tile, memory_, first);
      store_by_rows(tile, memory_ + kSubtileBytes, second);
    }
  }
  __device__ void store_by_tma(const ConsumerTile& tile, std::uint32_t subtile,
                               Destination to) const {
    if (to.target == Target::a)
      tma_store(args_.a_map, subtile, {to.col, tile.row, 0});
    else if (to.target != Target::none)
      tma_store(args_.h_map, subtile, {to.col, to.target == Target::h_up, tile.row});
  }
  __device__ void store_by_rows(const ConsumerTile& tile, std::uint32_t subtile,
                                Destination to) const {
    if (to.target == Target::none) return;
    Bf16* const base =
        to.target == Target::a ? out_.a : out_.h + (to.target == Target::h_up ? out_.cols : 0);
    const std::int64_t stride = to.target == Target::a ? out_.a_stride : out_.h_stride;
    for_each_chunk(subtile, tile.num_rows, [&](int row, int chunk, const uint4& value) {
      const int col = to.col + chunk * 8;
      if (col < out_.cols)
        *reinterpret_cast<uint4*>(base + (tile.row + row) * stride + col) = value;
    });
  }

  const Args& args_;
  const ActivateArgs<Bf16>& out_;
  int consumer_;
  std::uint32_t memory_;
  // Of this thread's rows; of pair 0 where there is no row.
  std::int32_t ids_[2] = {};
  float gates_[2] = {};
};

template <class Function, bool kIsGated>
using Gemm = GroupedGemm<true, kIsGated ? WeightTile::glu_up_rows : WeightTile::rows,
                         sm90_stages(ExpertGemm::up), Activate<Function, kIsGated>>;

template <class P>
__global__ void __launch_bounds__(kThreads, 1)
    expert_up_sm90_kernel(const __grid_constant__ typename P::Args args) {
  run_grouped_gemm<P>(args);
}

template <class Function, bool kIsGated>
void run(const Launch& launch, const ExpertUpArgs& args) {
  constexpr const char* kOp = "expert_up";
  constexpr int kHalves = kIsGated ? 2 : 1;
  using P = Gemm<Function, kIsGated>;
  const std::int64_t f = args.a.cols, num_experts = args.routing.num_experts;
  const CUtensorMap a_map = matrix_map(kOp, args.a, 64);
  const typename P::Args kernel_args{
      .a = {},
      .weight = weight_map(kOp, args.w1, num_experts * kHalves, f, 128),
      .schedule = {.tile_counter = tile_counter(launch),
                   .expert_offsets = args.routing.expert_offsets,
                   .num_experts = static_cast<int>(num_experts),
                   .col_tiles = static_cast<int>(ceil_div(f, P::kTileCols))},
      .k = static_cast<int>(args.x.cols),
      .rows = static_cast<const Bf16*>(args.x.data),
      .row_bytes = row_bytes(args.x),
      .index = RowIndex(args.routing, RowLayout::scattered, args.x.rows),
      .epilogue = {.h_map = args.h.data ? halves_map(kOp, args.h, kHalves) : a_map,
                   .a_map = a_map,
                   .out = activate_args<Bf16>(args)}};
  launch_clusters(launch, kOp, expert_up_sm90_kernel<P>, P::kSharedBytes, kernel_args);
}

}  // namespace

void expert_up(const Launch& launch, const ExpertUpArgs& args, const ExpertGemmConfig&) {
  dispatch_kind(args.kind, [&](auto function, auto is_gated) {
    run<decltype(function), is_gated>(launch, args);
  });
}

}  // namespace smoe::kernels::cuda::sm90
