// grouped_gemm for compute capability 9.0: y = W x + bias of routed rows.
//
// Grid:      one persistent block per SM, clusters of 2, 384 threads; roles and registers as in
//            grouped_wgmma.cuh.
// Shared:    3 stages (144 KiB); per consumer 64 x 256 bf16 results and the tile's bias (33 KiB, 34
//            if y is scattered).
// Epilogue:  accumulators to shared memory by stmatrix; out by TMA, row by row where the expert
//            ends within the tile; or by one bulk copy per row where y is scattered.
#include "kernels/ceil_div.h"
#include "kernels/cuda/experts/epilogue_args.cuh"
#include "kernels/cuda/experts/forms.h"
#include "kernels/cuda/experts/sm90/epilogue.cuh"
#include "kernels/cuda/experts/sm90/grouped_wgmma.cuh"
#include "kernels/cuda/experts/sm90/launch.cuh"

namespace smoe::kernels::cuda::sm90 {
namespace {

/// Up to this k the consumers start the stores of scattered rows.
constexpr int kConsumerStoreK = 512;

// A tile's bias in shared memory. The words (two bf16) that a lane adds to four neighboring
// accumulator fragments lie side by side.
class TileBias {
 public:
  static constexpr int kBytes = kBlockN * int{sizeof(Bf16)};
  /// A lane's bias of a sub-tile's fragments, which is that of both of its rows.
  using Words = std::uint32_t[8];

  __device__ explicit TileBias(std::uint32_t memory) : memory_(memory) {}

  // Called by all threads of a consumer.
  __device__ void load(const StoreRowsArgs<Bf16>& out, const ConsumerTile& tile) const {
    const int word = threadIdx.x % kWarpgroup, col = tile.col_tile * kBlockN + word * 2;
    if (col >= out.cols) return;
    const std::int64_t at = std::int64_t{tile.expert} * out.cols + col;
    const int fragment = word / 4;
    const int place = fragment / 4 * 16 + word % 4 * 4 + fragment % 4;
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(memory_ + place * 4),
                 "r"(*reinterpret_cast<const std::uint32_t*>(out.bias + at))
                 : "memory");
  }
  __device__ void read(int subtile, Words& words) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const auto four = load_shared<uint4>(memory_ + (subtile * 2 + i) * 64 + threadIdx.x % 4 * 16);
      words[4 * i] = four.x, words[4 * i + 1] = four.y;
      words[4 * i + 2] = four.z, words[4 * i + 3] = four.w;
    }
  }
  // Accumulators i and i + 1, neighbors in a row, plus their bias.
  static __device__ std::uint32_t add(const Accumulators& acc, int i, const Words& words) {
    const float2 bias = unpack_bf16(words[i / 4 % 8]);
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
    const bool is_first = threadIdx.x % kWarpgroup == 0;
    if (is_first) tma_store_wait_read<0>();
    warpgroup_sync(consumer_);
#pragma unroll
    for (int subtile = 0; subtile < kResultSubtiles; ++subtile) {
      TileBias::Words bias{};
      if constexpr (kHasBias) bias_.read(subtile, bias);
      write_subtile(memory_ + subtile * kSubtileBytes, [&](int pair, int word) {
        const int i = accumulator_index(subtile, pair, word);
        return kHasBias ? TileBias::add(acc, i, bias) : pack_bf16(acc[i], acc[i + 1]);
      });
    }
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
//
// kHasStorer: a warp of the producer starts the copies, each of which takes it tens of cycles; it
// keeps up with tiles of more than kConsumerStoreK. Below, the consumers' eight warps start them.
template <bool kHasBias, bool kHasStorer_>
class ScatterRows {
 public:
  struct Args {
    StoreRowsArgs<Bf16> out;

    Args(const char*, const GroupedGemmArgs& args) : out(store_rows_args<Bf16>(args)) {}
  };
  static constexpr bool kHasStorer = kHasStorer_;
  // 16 bytes of padding: the eight rows that stmatrix writes at once are in different banks.
  static constexpr int kPaddedRowBytes = kBlockN * int{sizeof(Bf16)} + 16;
  static constexpr int kBytes = 64 * kPaddedRowBytes + 1024;  // results and bias
  static_assert(kBytes % 1024 == 0 && TileBias::kBytes <= 1024);

  class Storer;

  __device__ ScatterRows(const Args& args, int consumer, std::uint32_t memory,
                         std::uint32_t barriers)
      : out_(args.out),
        consumer_(consumer),
        memory_(memory),
        barriers_(barriers),
        bias_(memory + 64 * kPaddedRowBytes) {}

  __device__ void begin(const ConsumerTile& tile) const {
    if constexpr (kHasBias) bias_.load(out_, tile);
  }
  // Every other thread stores a row, so that all four quarters of the SM issue copies.
  __device__ void prefetch(const ConsumerTile& tile) {
    if constexpr (kHasStorer) return;
    row_ = threadIdx.x % kWarpgroup / 2;
    const bool stores = threadIdx.x % 2 == 0 && row_ < tile.num_rows;
    id_ = stores ? __ldg(out_.ids + tile.row + row_) : -1;
  }
  __device__ void store(const ConsumerTile& tile, const Accumulators& acc) {
    if constexpr (kHasStorer) {
      mbarrier_wait(empty_barrier(barriers_), phase_, {"results empty", consumer_});
      phase_ ^= 1;
    } else {
      tma_store_wait_read<0>();
    }
    // The bias is loaded, and the copies of all threads have read the memory.
    if constexpr (kHasBias || !kHasStorer) warpgroup_sync(consumer_);
    write(acc);
    fence_proxy_async();
    warpgroup_sync(consumer_);
    if constexpr (kHasStorer) {
      if (threadIdx.x % kWarpgroup == 0) mbarrier_arrive(full_barrier(barriers_));
      return;
    }
    if (id_ < 0) return;
    const int col = tile.col_tile * kBlockN;
    bulk_store(out_.y + id_ * out_.stride + col, memory_ + row_ * kPaddedRowBytes,
               row_bytes(out_, col));
    tma_store_commit();
  }
  __device__ void finish() const {
    if constexpr (!kHasStorer) tma_store_wait();
  }

 private:
  __device__ void write(const Accumulators& acc) const {
    const int thread = threadIdx.x % kWarpgroup, lane = thread % 32;
    const std::uint32_t to =
        memory_ + (thread / 32 * 16 + lane % 16) * kPaddedRowBytes + lane / 16 * 16;
#pragma unroll
    for (int subtile = 0; subtile < kBlockN / 64; ++subtile) {
      TileBias::Words bias{};
      if constexpr (kHasBias) bias_.read(subtile, bias);
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {
        std::uint32_t words[4];
#pragma unroll
        for (int word = 0; word < 4; ++word) {
          const int i = accumulator_index(subtile, pair, word);
          words[word] = kHasBias ? TileBias::add(acc, i, bias) : pack_bf16(acc[i], acc[i + 1]);
        }
        stmatrix_x4<false>(to + (subtile * 4 + pair) * 32, words);
      }
    }
  }
  static __device__ int row_bytes(const StoreRowsArgs<Bf16>& out, int col) {
    return min(out.cols - col, kBlockN) * int{sizeof(Bf16)};
  }
  // Of a consumer's results.
  static __device__ std::uint32_t full_barrier(std::uint32_t barriers) {
    return barriers;
  }
  static __device__ std::uint32_t empty_barrier(std::uint32_t barriers) {
    return barriers + 8;
  }

  const StoreRowsArgs<Bf16>& out_;
  int consumer_;
  std::uint32_t memory_, barriers_;
  TileBias bias_;
  std::uint32_t phase_ = 1;  // empty at first
  int row_ = 0;
  std::int64_t id_ = -1;  // of the row that this thread stores
};

template <bool kHasBias, bool kHasStorer_>
class ScatterRows<kHasBias, kHasStorer_>::Storer {
 public:
  __device__ Storer(const Args& args, std::uint32_t memory, std::uint32_t barriers)
      : out_(args.out), memory_(memory), barriers_(barriers) {}

  // Called by all lanes of a warp. A lane stores rows `lane` and `lane` + 32 of each consumer.
  __device__ void store(const ConsumerTile (&tiles)[kNumConsumers]) {
    const int lane = threadIdx.x % kWarp, col = tiles[0].col_tile * kBlockN;
    const int bytes = row_bytes(out_, col);
    Bf16* rows[kNumConsumers][2];  // before the results are awaited
#pragma unroll
    for (int c = 0; c < kNumConsumers; ++c)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = lane + kWarp * i;
        rows[c][i] = row < tiles[c].num_rows ? out_.row(tiles[c].row + row) + col : nullptr;
      }
#pragma unroll
    for (int c = 0; c < kNumConsumers; ++c) {
      if (tiles[c].num_rows <= 0) continue;
      mbarrier_wait(full_barrier(barriers_of(c)), phases_[c], {"results full", c});
      phases_[c] ^= 1;
#pragma unroll
      for (int i = 0; i < 2; ++i)
        if (rows[c][i])
          bulk_store(rows[c][i], memory_ + c * kBytes + (lane + kWarp * i) * kPaddedRowBytes,
                     bytes);
      tma_store_commit();
    }
    tma_store_wait_read<0>();
    __syncwarp();
#pragma unroll
    for (int c = 0; c < kNumConsumers; ++c)
      if (lane == 0 && tiles[c].num_rows > 0) mbarrier_arrive(empty_barrier(barriers_of(c)));
  }
  __device__ void finish() const {
    tma_store_wait();
  }

 private:
  __device__ std::uint32_t barriers_of(int consumer) const {
    return barriers_ + consumer * kEpilogueBarriers * 8;
  }

  const StoreRowsArgs<Bf16>& out_;
  std::uint32_t memory_, barriers_;  // of the first consumer
  std::uint32_t phases_[kNumConsumers] = {};
};

template <class P>
__global__ void __launch_bounds__(kThreads, 1)
    grouped_gemm_sm90_kernel(const __grid_constant__ typename P::Args args) {
  run_grouped_gemm<P>(args);
}

template <bool kGathers, WeightTile kWeightTile, class Epilogue>
void run(const Launch& launch, const GroupedGemmArgs& args) {
  constexpr const char* kOp = "grouped_gemm";
  constexpr int kBoxRows = kWeightTile == WeightTile::columns ? 64 : 128;
  using P = GroupedGemm<kGathers, kWeightTile, sm90_stages(ExpertGemm::grouped_gemm), Epilogue>;
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

}  // namespace

void grouped_gemm(const Launch& launch, const GroupedGemmArgs& args, const ExpertGemmConfig&) {
  dispatch_flag(args.x.layout == RowLayout::scattered, [&](auto gathers) {
    const auto run_with = [&]<class Epilogue>(std::type_identity<Epilogue>) {
      args.transpose_weight ? run<gathers, WeightTile::columns, Epilogue>(launch, args)
                            : run<gathers, WeightTile::rows, Epilogue>(launch, args);
    };
    dispatch_flag(args.bias.data != nullptr, [&](auto has_bias) {
      if (args.y_layout == RowLayout::grouped)
        return run_with(std::type_identity<StoreRows<has_bias>>{});
      dispatch_flag(args.x.rows.cols > kConsumerStoreK, [&](auto has_storer) {
        run_with(std::type_identity<ScatterRows<has_bias, has_storer>>{});
      });
    });
  });
}

}  // namespace smoe::kernels::cuda::sm90
