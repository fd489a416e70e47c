// grouped_gemm for compute capability 9.0: y = W x + bias of routed rows.
//
// Grid:      one persistent block per SM, clusters of 2, 384 threads; roles and registers as in
//            grouped_wgmma.cuh.
// Shared:    3 stages (144 KiB); per consumer 64 x 256 bf16 results and the tile's bias (33 KiB).
// Epilogue:  accumulators to shared memory by stmatrix; out by TMA, or row by row where y is
//            scattered or the expert ends within the tile.
#include "kernels/ceil_div.h"
#include "kernels/cuda/experts/epilogue_args.cuh"
#include "kernels/cuda/experts/forms.h"
#include "kernels/cuda/experts/sm90/epilogue.cuh"
#include "kernels/cuda/experts/sm90/grouped_wgmma.cuh"
#include "kernels/cuda/experts/sm90/launch.cuh"

namespace smoe::kernels::cuda::sm90 {
namespace {

template <bool kHasBias, bool kIsScattered>
class StoreRows {
 public:
  struct Args {
    CUtensorMap map;  // of y
    StoreRowsArgs<Bf16> out;
  };
  static constexpr int kSubtiles = kBlockN / 64;
  static constexpr int kBytes = kSubtiles * kSubtileBytes + 1024;  // results, and a bias per column

  __device__ StoreRows(const Args& args, int consumer, std::uint32_t memory, std::uint32_t)
      : map_(args.map), out_(args.out), consumer_(consumer), memory_(memory) {}

  __device__ void begin(const ConsumerTile& tile) const {
    const int in_tile = threadIdx.x % kWarpgroup * 2, col = tile.col_tile * kBlockN + in_tile;
    if (!kHasBias || col >= out_.cols) return;
    const std::int64_t at = std::int64_t{tile.expert} * out_.cols + col;
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(bias_address(in_tile)),
                 "r"(*reinterpret_cast<const std::uint32_t*>(out_.bias + at))
                 : "memory");
  }
  __device__ void prefetch(const ConsumerTile&) const {}
  __device__ void store(const ConsumerTile& tile, const Accumulators& acc) const {
    const bool is_first = threadIdx.x % kWarpgroup == 0;
    const int first_col = tile.col_tile * kBlockN;
    if (is_first) tma_store_wait_read<0>();
    warpgroup_sync(consumer_);
#pragma unroll
    for (int subtile = 0; subtile < kSubtiles; ++subtile)
      write_subtile(memory_ + subtile * kSubtileBytes, [&](int pair, int word) {
        const int i = accumulator_index(subtile, pair, word);
        if constexpr (!kHasBias) return pack_bf16(acc[i], acc[i + 1]);
        const float2 bias = load_bias(i / 4 * 8);
        return pack_bf16(acc[i] + bias.x, acc[i + 1] + bias.y);
      });
    const bool by_tma = !kIsScattered && tile.num_rows >= 64;
    if (by_tma) fence_proxy_async();
    warpgroup_sync(consumer_);
    if (by_tma) {
      if (!is_first) return;
#pragma unroll
      for (int subtile = 0; subtile < kSubtiles; ++subtile)
        tma_store(map_, memory_ + subtile * kSubtileBytes, {first_col + subtile * 64, tile.row, 0});
      tma_store_commit();
      return;
    }
#pragma unroll
    for (int subtile = 0; subtile < kSubtiles; ++subtile)
      for_each_chunk(memory_ + subtile * kSubtileBytes, tile.num_rows,
                     [&](int row, int chunk, const uint4& value) {
                       const int col = first_col + subtile * 64 + chunk * 8;
                       if (col >= out_.cols) return;
                       const int at = tile.row + row;
                       const std::int64_t y_row = kIsScattered ? __ldg(out_.ids + at) : at;
                       *reinterpret_cast<uint4*>(out_.y + y_row * out_.stride + col) = value;
                     });
  }
  __device__ void finish() const {
    if (threadIdx.x % kWarpgroup == 0) tma_store_wait();
  }

 private:
  __device__ std::uint32_t bias_address(int col) const {
    return memory_ + kSubtiles * kSubtileBytes + col * int{sizeof(Bf16)};
  }
  // This thread's two of the tile's eight columns from col on.
  __device__ float2 load_bias(int col) const {
    std::uint32_t both;
    asm volatile("ld.shared.b32 %0, [%1];"
                 : "=r"(both)
                 : "r"(bias_address(col + threadIdx.x % 4 * 2))
                 : "memory");
    return unpack_bf16(both);
  }

  const CUtensorMap& map_;
  const StoreRowsArgs<Bf16>& out_;
  int consumer_;
  std::uint32_t memory_;
};

template <bool kGathers, WeightTile kWeightTile, bool kHasBias, bool kIsScattered>
using Gemm = GroupedGemm<kGathers, kWeightTile, sm90_stages(ExpertGemm::grouped_gemm),
                         StoreRows<kHasBias, kIsScattered>>;

template <class P>
__global__ void __launch_bounds__(kThreads, 1)
    grouped_gemm_sm90_kernel(const __grid_constant__ typename P::Args args) {
  run_grouped_gemm<P>(args);
}

template <bool kGathers, WeightTile kWeightTile, bool kHasBias, bool kIsScattered>
void run(const Launch& launch, const GroupedGemmArgs& args) {
  constexpr const char* kOp = "grouped_gemm";
  constexpr int kBoxRows = kWeightTile == WeightTile::columns ? 64 : 128;
  using P = Gemm<kGathers, kWeightTile, kHasBias, kIsScattered>;
  const ConstMatrix& x = args.x.rows;
  const std::int64_t num_experts = args.routing.num_experts;
  const typename P::Args kernel_args{
      .a = kGathers ? CUtensorMap{} : matrix_map(kOp, x, kBlockM),
      .weight = weight_map(kOp, args.weight, num_experts, args.weight.rows, kBoxRows),
      .schedule = {.tile_counter = tile_counter(launch),
                   .expert_offsets = args.routing.expert_offsets,
                   .num_experts = static_cast<int>(num_experts),
                   .col_tiles = static_cast<int>(ceil_div(args.y.cols, P::kTileCols))},
      .k = static_cast<int>(x.cols),
      .rows = static_cast<const Bf16*>(x.data),
      .row_bytes = row_bytes(x),
      .index = RowIndex(args.routing, args.x.layout, x.rows),
      .epilogue = {.map = matrix_map(kOp, args.y, 64), .out = store_rows_args<Bf16>(args)}};
  launch_clusters(launch, kOp, grouped_gemm_sm90_kernel<P>, P::kSharedBytes, kernel_args);
}

// Calls f with the flag as a constant.
template <class F>
void dispatch_flag(bool flag, F&& f) {
  flag ? f(std::true_type{}) : f(std::false_type{});
}

}  // namespace

void grouped_gemm(const Launch& launch, const GroupedGemmArgs& args, const ExpertGemmConfig&) {
  dispatch_flag(args.x.layout == RowLayout::scattered, [&](auto gathers) {
    dispatch_flag(args.bias.data != nullptr, [&](auto has_bias) {
      dispatch_flag(args.y_layout == RowLayout::scattered, [&](auto is_scattered) {
        args.transpose_weight
            ? run<gathers, WeightTile::columns, has_bias, is_scattered>(launch, args)
            : run<gathers, WeightTile::rows, has_bias, is_scattered>(launch, args);
      });
    });
  });
}

}  // namespace smoe::kernels::cuda::sm90
