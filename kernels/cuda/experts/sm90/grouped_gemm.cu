// grouped_gemm for compute capability 9.0: y = W x + bias of routed rows.
//
// Grid:      one persistent block per SM, clusters of 2, 384 threads; roles and registers as in
//            grouped_wgmma.cuh.
// Shared:    3 stages (144 KiB); per consumer 64 x 256 bf16 results and the tile's bias (33 KiB, 34
//            if y is scattered).
// Epilogue:  accumulators to shared memory by stmatrix; out by TMA, row by row where the expert
// ends
//            within the tile; or by one bulk copy per row where y is scattered.
#include "kernels/ceil_div.h"
#include "kernels/cuda/experts/epilogue_args.cuh"
#include "kernels/cuda/experts/forms.h"
#include "kernels/cuda/experts/sm90/epilogue.cuh"
#include "kernels/cuda/experts/sm90/grouped_wgmma.cuh"
#include "kernels/cuda/experts/sm90/launch.cuh"

namespace smoe::kernels::cuda::sm90 {
namespace {

// A tile's bias in shared memory, one bf16 per column.
class TileBias {
 public:
  static constexpr int kBytes = kBlockN * int{sizeof(Bf16)};

  __device__ explicit TileBias(std::uint32_t memory) : memory_(memory) {}

  // Called by all threads of a consumer.
  __device__ void load(const StoreRowsArgs<Bf16>& out, const ConsumerTile& tile) const {
    const int in_tile = threadIdx.x % kWarpgroup * 2, col = tile.col_tile * kBlockN + in_tile;
    if (col >= out.cols) return;
    const std::int64_t at = std::int64_t{tile.expert} * out.cols + col;
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(memory_ + in_tile * int{sizeof(Bf16)}),
                 "r"(*reinterpret_cast<const std::uint32_t*>(out.bias + at))
                 : "memory");
  }
  // Accumulators i and i + 1, neighbors in a row, plus their bias.
  __device__ std::uint32_t add(const Accumulators& acc, int i) const {
    std::uint32_t both;
    asm volatile("ld.shared.b32 %0, [%1];"
                 : "=r"(both)
                 : "r"(memory_ + (i / 4 * 8 + threadIdx.x % 4 * 2) * int{sizeof(Bf16)})
                 : "memory");
    const float2 bias = unpack_bf16(both);
    return pack_bf16(acc[i] + bias.x, acc[i + 1] + bias.y);
  }

 private:
  std::uint32_t memory_;
};

// Grouped y.
template <bool kHasBias>
class StoreRows {
 public:
  struct Args {
    CUtensorMap map;  // of y
    StoreRowsArgs<Bf16> out;

    Args(const char* op, const GroupedGemmArgs& args)
        : map(matrix_map(op, args.y, 64)), out(store_rows_args<Bf16>(args)) {}
  };
  static constexpr int kBytes = kResultBytes + 1024;  // results and bias

  __device__ StoreRows(const Args& args, int consumer, std::uint32_t memory, std::uint32_t)
      : map_(args.map),
        out_(args.out),
        consumer_(consumer),
        memory_(memory),
        bias_(memory + kResultBytes) {}

  __device__ void begin(const ConsumerTile& tile) const {
    if constexpr (kHasBias) bias_.load(out_, tile);
  }
  __device__ void prefetch(const ConsumerTile&) const {}
  __device__ void store(const ConsumerTile& tile, const Accumulators& acc) const {
    const int first_col = tile.col_tile * kBlockN;
    write_results(consumer_, memory_, [&](int i) {
      if constexpr (!kHasBias) return pack_bf16(acc[i], acc[i + 1]);
      return bias_.add(acc, i);
    });
    const bool by_tma = tile.num_rows >= 64;
    if (by_tma) fence_proxy_async();
    warpgroup_sync(consumer_);
    if (by_tma) return store_results(map_, memory_, first_col, tile.row);
#pragma unroll
    for (int subtile = 0; subtile < kResultSubtiles; ++subtile)
      for_each_chunk(memory_ + subtile * kSubtileBytes, tile.num_rows,
                     [&](int row, int chunk, const uint4& value) {
                       const int col = first_col + subtile * 64 + chunk * 8;
                       if (col >= out_.cols) return;
                       Bf16* const to = out_.y + (tile.row + row) * out_.stride + col;
                       *reinterpret_cast<uint4*>(to) = value;
                     });
  }
  __device__ void finish() const {
    if (threadIdx.x % kWarpgroup == 0) tma_store_wait();
  }

 private:
  const CUtensorMap& map_;
  const StoreRowsArgs<Bf16>& out_;
  int consumer_;
  std::uint32_t memory_;
  TileBias bias_;
};

// Scattered y: one bulk copy per row, which runs under the next tile's mainloop.
template <bool kHasBias>
class ScatterRows {
 public:
  struct Args {
    StoreRowsArgs<Bf16> out;

    Args(const char*, const GroupedGemmArgs& args) : out(store_rows_args<Bf16>(args)) {}
  };
  // 16 bytes of padding: the eight rows that stmatrix writes at once are in different banks.
  static constexpr int kPaddedRowBytes = kBlockN * int{sizeof(Bf16)} + 16;
  static constexpr int kBytes = 64 * kPaddedRowBytes + 1024;  // results and bias
  static_assert(kBytes % 1024 == 0 && TileBias::kBytes <= 1024);

  __device__ ScatterRows(const Args& args, int consumer, std::uint32_t memory, std::uint32_t)
      : out_(args.out),
        consumer_(consumer),
        memory_(memory),
        bias_(memory + 64 * kPaddedRowBytes) {}

  __device__ void begin(const ConsumerTile& tile) const {
    if constexpr (kHasBias) bias_.load(out_, tile);
  }
  // Every other thread stores a row, so that all four quarters of the SM issue copies.
  __device__ void prefetch(const ConsumerTile& tile) {
    row_ = threadIdx.x % kWarpgroup / 2;
    const bool stores = threadIdx.x % 2 == 0 && row_ < tile.num_rows;
    id_ = stores ? __ldg(out_.ids + tile.row + row_) : -1;
  }
  __device__ void store(const ConsumerTile& tile, const Accumulators& acc) const {
    tma_store_wait_read<0>();
    warpgroup_sync(consumer_);
    const int thread = threadIdx.x % kWarpgroup, lane = thread % 32;
    const std::uint32_t to =
        memory_ + (thread / 32 * 16 + lane % 16) * kPaddedRowBytes + lane / 16 * 16;
#pragma unroll
    for (int pair = 0; pair < kBlockN / 16; ++pair) {
      std::uint32_t words[4];
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        const int i = accumulator_index(0, pair, word);
        words[word] = kHasBias ? bias_.add(acc, i) : pack_bf16(acc[i], acc[i + 1]);
      }
      stmatrix_x4<false>(to + pair * 32, words);
    }
    fence_proxy_async();
    warpgroup_sync(consumer_);
    if (id_ < 0) return;
    const int col = tile.col_tile * kBlockN;
    const int bytes = min(out_.cols - col, kBlockN) * int{sizeof(Bf16)};
    bulk_store(out_.y + id_ * out_.stride + col, memory_ + row_ * kPaddedRowBytes, bytes);
    tma_store_commit();
  }
  __device__ void finish() const {
    tma_store_wait();
  }

 private:
  const StoreRowsArgs<Bf16>& out_;
  int consumer_;
  std::uint32_t memory_;
  TileBias bias_;
  int row_ = 0;
  std::int64_t id_ = -1;  // of the row that this thread stores
};

template <bool kGathers, WeightTile kWeightTile, bool kHasBias, bool kIsScattered>
using Gemm =
    GroupedGemm<kGathers, kWeightTile, sm90_stages(ExpertGemm::grouped_gemm),
                std::conditional_t<kIsScattered, ScatterRows<kHasBias>, StoreRows<kHasBias>>>;

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
                   .col_tiles = static_cast<int>(ceil_div(args.y.cols, P::kTileCols)),
                   .overlaps_preceding = args.overlaps_preceding},
      .k = static_cast<int>(x.cols),
      .rows = static_cast<const Bf16*>(x.data),
      .row_bytes = row_bytes(x),
      .index = RowIndex(args.routing, args.x.layout, x.rows),
      .epilogue = {kOp, args}};
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
