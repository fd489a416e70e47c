// expert_up for compute capability 9.0: h = W1 x, a = gate * act(h).
//
// Grid:      one persistent block per SM, clusters of 2, 384 threads; x is gathered by cp.async;
//            roles and registers as in handoff_wgmma.cuh.
// Tile:      gated units have 128 GLU columns and the 128 up columns of the same units in one tile,
//            so that both halves of a pre-activation are in one consumer's results.
// Shared:    3 stages (144 KiB); the consumers' results (64 KiB), which are h; two 64 x 64 bf16
//            sub-tiles of a (16 KiB).
// Epilogue:  TMA stores h from where the consumers left it, while a is computed from it.
#include "kernels/ceil_div.h"
#include "kernels/cuda/device/activation_functions.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/experts/epilogue_args.cuh"
#include "kernels/cuda/experts/forms.h"
#include "kernels/cuda/experts/sm90/epilogue.cuh"
#include "kernels/cuda/experts/sm90/handoff_wgmma.cuh"
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
  static constexpr int kSlots = 2;  // of a
  static constexpr int kBytes = kSlots * kSubtileBytes;
  static constexpr int kUnits = kIsGated ? kBlockN / 2 : kBlockN;  // per tile

  __device__ Activate(const Args& args, std::uint32_t memory)
      : args_(args), out_(args.out), memory_(memory) {}

  __device__ void begin(const ConsumerTile& tile) {
    std::int32_t ids[kRows];  // all loads first
#pragma unroll
    for (int i = 0; i < kRows; ++i)
      ids[i] = row(i) < tile.num_rows ? __ldg(out_.ids + tile.row + row(i)) : 0;
#pragma unroll
    for (int i = 0; i < kRows; ++i) gates_[i] = out_.gates[ids[i]];
  }

  __device__ void store(const ConsumerTile& tile, std::uint32_t h) const {
    const bool is_full = tile.num_rows >= 64;
    store_h(tile, h, is_full);
#pragma unroll
    for (int subtile = 0; subtile < kUnits / 64; ++subtile) {
      const std::uint32_t slot = memory_ + subtile % kSlots * kSubtileBytes;
      // The slot's last store is older than h's and the other slot's.
      if (is_first()) subtile < kSlots ? tma_store_wait_read<2>() : tma_store_wait_read<1>();
      epilogue_sync();
      const int col = tile.col_tile * kUnits + subtile * 64;
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const uint4 a = activated(h, subtile, i);
        if (is_full)
          store_shared(slot + swizzled_offset(row(i), chunk()), make_int4(a.x, a.y, a.z, a.w));
        else
          store_row(out_.a, out_.a_stride, tile, i, col, a);
      }
      fence_proxy_async();
      epilogue_sync();
      if (!is_first()) continue;
      if (is_full) tma_store(args_.a_map, slot, {col, tile.row, 0});
      tma_store_commit();
    }
    if (is_first()) tma_store_wait_read<kUnits / 64>();  // of h
  }
  __device__ void finish() const {
    if (is_first()) tma_store_wait();
  }

 private:
  static constexpr int kRows = 64 * 8 / kEpilogueThreads;  // of a thread in 64

  static __device__ bool is_first() {
    return epilogue_thread() == 0;
  }
  static __device__ int chunk() {
    return epilogue_thread() % 8;
  }
  static __device__ int row(int i) {
    return epilogue_thread() / 8 + kEpilogueThreads / 8 * i;
  }

  // One group of TMA stores, which may be empty.
  __device__ void store_h(const ConsumerTile& tile, std::uint32_t h, bool is_full) const {
    constexpr int kHalves = kIsGated ? 2 : 1;
    const int col = tile.col_tile * kUnits;
    if (is_full) {
      if (!is_first()) return;
      for (int subtile = 0; out_.h && subtile < 4; ++subtile)
        tma_store(args_.h_map, h + subtile * kSubtileBytes,
                  {col + subtile % (4 / kHalves) * 64, subtile / (4 / kHalves), tile.row});
      tma_store_commit();
      return;
    }
    for (int subtile = 0; out_.h && subtile < 4; ++subtile)
      for (int i = 0; i < kRows; ++i)
        store_row(
            out_.h + subtile / (4 / kHalves) * out_.cols, out_.h_stride, tile, i,
            col + subtile % (4 / kHalves) * 64,
            load_shared<uint4>(h + subtile * kSubtileBytes + swizzled_offset(row(i), chunk())));
    if (is_first()) tma_store_commit();
  }
  __device__ void store_row(Bf16* to, std::int64_t stride, const ConsumerTile& tile, int i,
                            int first_col, const uint4& value) const {
    const int col = first_col + chunk() * 8;
    if (row(i) < tile.num_rows && col < out_.cols)
      *reinterpret_cast<uint4*>(to + (tile.row + row(i)) * stride + col) = value;
  }

  // Of this thread's chunk of its row i.
  __device__ uint4 activated(std::uint32_t h, int subtile, int i) const {
    const std::uint32_t at = h + subtile * kSubtileBytes + swizzled_offset(row(i), chunk());
    const uint4 glu = load_shared<uint4>(at);
    uint4 up{};
    if (kIsGated) up = load_shared<uint4>(at + 2 * kSubtileBytes);
    const auto word = [&](std::uint32_t glu, std::uint32_t up) {
      const float2 x = unpack_bf16(glu), y = unpack_bf16(up);
      return pack_bf16(activate<Bf16, Function, kIsGated>(x.x, y.x, gates_[i]),
                       activate<Bf16, Function, kIsGated>(x.y, y.y, gates_[i]));
    };
    return {word(glu.x, up.x), word(glu.y, up.y), word(glu.z, up.z), word(glu.w, up.w)};
  }

  const Args& args_;
  const ActivateArgs<Bf16>& out_;
  std::uint32_t memory_;
  float gates_[kRows] = {};  // of this thread's rows; of pair 0 where there is no row
};

template <class Function, bool kIsGated>
using Gemm = HandoffGemm<kIsGated ? WeightTile::glu_up_rows : WeightTile::rows,
                         sm90_stages(ExpertGemm::up), Activate<Function, kIsGated>>;

template <class P>
__global__ void __launch_bounds__(kThreads, 1)
    expert_up_sm90_kernel(const __grid_constant__ typename P::Args args) {
  run_handoff_gemm<P>(args);
}

template <class Function, bool kIsGated>
void run(const Launch& launch, const ExpertUpArgs& args) {
  constexpr const char* kOp = "expert_up";
  constexpr int kHalves = kIsGated ? 2 : 1;
  using P = Gemm<Function, kIsGated>;
  const std::int64_t f = args.a.cols, num_experts = args.routing.num_experts;
  const CUtensorMap a_map = matrix_map(kOp, args.a, 64);
  const typename P::Args kernel_args{
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
