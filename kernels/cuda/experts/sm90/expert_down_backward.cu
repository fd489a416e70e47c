// expert_down_backward for compute capability 9.0: da = W2^T dout; h becomes dh, a is recomputed,
// and each row's gate gradient is reduced over the tile's columns.
//
// Two forms, by k = D: ping-pong (pingpong_wgmma.cuh) up to kSm90PingPongMaxK, where the epilogue
// takes as long as the mainloop; above, cooperative (grouped_wgmma.cuh).
// Grid:      one persistent block per SM, 384 threads, cooperative in clusters of 2; dout is
// gathered
//            by cp.async; roles and registers as in those files.
// Shared:    cooperative: 3 stages (144 KiB); per consumer two slots of h (GLU and up sub-tiles, 16
//            KiB each) and one sub-tile of a (8 KiB). Ping-pong: 4 stages (128 KiB); per consumer
//            two slots of h and of a (48 KiB).
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
#include "kernels/cuda/experts/sm90/pingpong_wgmma.cuh"

namespace smoe::kernels::cuda::sm90 {
namespace {

struct EpilogueArgs {
  CUtensorMap h_map, a_map;
  ActivateBackwardArgs<Bf16> out;
};

// Replaces a sub-tile of h by dh and writes the same one of a. `acc` holds da, of which sub-tile
// `subtile` is meant; this thread's two rows have `gates`, and `dgates` accumulates their
// gradients.
template <class Function, bool kIsGated>
__device__ void backward(const float* acc, int subtile, std::uint32_t h, std::uint32_t a,
                         const float* gates, float* dgates) {
  constexpr int kAhead = 3;  // pairs loaded ahead: all four would need more registers than there are
  std::uint32_t glu_words[4][4], up_words[4][4];
  const auto load = [&](int pair) {
    ldmatrix_x4<false>(h + matrices_offset(pair), glu_words[pair]);
    if (kIsGated) ldmatrix_x4<false>(h + kSubtileBytes + matrices_offset(pair), up_words[pair]);
  };
#pragma unroll
  for (int pair = 0; pair < kAhead; ++pair) load(pair);
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    std::uint32_t activated[4];
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      const int i = accumulator_index(subtile, pair, word);
      const float2 glu = unpack_bf16(glu_words[pair][word]);
      const float2 up = kIsGated ? unpack_bf16(up_words[pair][word]) : float2{};
      const float gate = gates[word % 2];
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
    if (pair + kAhead < 4) load(pair + kAhead);
  }
}

// The first num_rows rows of a sub-tile whose first column is first_col of `cols`; `to` points to
// column 0 of its first row.
__device__ inline void store_rows(std::uint32_t subtile, int num_rows, int first_col, int cols,
                                  Bf16* to, std::int64_t stride) {
  for_each_chunk(subtile, num_rows, [&](int row, int chunk, const uint4& value) {
    const int col = first_col + chunk * 8;
    if (col < cols) *reinterpret_cast<uint4*>(to + row * stride + col) = value;
  });
}

// The sum over the four lanes of a row.
__device__ inline float reduce_row(float dgate) {
  dgate += __shfl_xor_sync(~0u, dgate, 1);
  return dgate + __shfl_xor_sync(~0u, dgate, 2);
}

template <class Function, bool kIsGated>
class ActivateBackward {
 public:
  using Args = EpilogueArgs;
  static constexpr int kHalves = kIsGated ? 2 : 1;
  static constexpr int kSlotBytes = kHalves * kSubtileBytes;
  static constexpr int kBytes = 2 * kSlotBytes + kSubtileBytes;
  static constexpr int kSubtiles = kBlockN / 64;

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
      mbarrier_wait(barrier(subtile), subtile / 2 % 2, {"h full", subtile});
      warpgroup_sync(consumer_);
      backward<Function, kIsGated>(acc, subtile, h, a, gates_, dgates);
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
          store_rows(h + half * kSubtileBytes, tile.num_rows, col, out_.cols,
                     out_.h + tile.row * out_.h_stride + half * out_.cols, out_.h_stride);
        store_rows(a, tile.num_rows, col, out_.cols, out_.a + tile.row * out_.a_stride,
                   out_.a_stride);
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
      const float dgate = reduce_row(dgates[i]);
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

  const Args& args_;
  const ActivateBackwardArgs<Bf16>& out_;
  int consumer_;
  std::uint32_t memory_, barriers_;
  float gates_[2] = {};  // of this thread's rows
};

// Ping-pong: four parts of 64 rows and 64 columns, the upper rows first. A part's h has one of two
// slots, as above, and its a another memory than the part before.
template <class Function, bool kIsGated>
class PingPongActivateBackward {
 public:
  using Args = EpilogueArgs;
  static constexpr int kHalves = kIsGated ? 2 : 1;
  static constexpr int kSlotBytes = kHalves * kSubtileBytes;
  static constexpr int kBytes = 2 * (kSlotBytes + kSubtileBytes);
  static constexpr int kParts = 4;

  __device__ PingPongActivateBackward(const Args& args, int consumer, std::uint32_t memory,
                                      std::uint32_t barriers)
      : args_(args), out_(args.out), consumer_(consumer), memory_(memory), barriers_(barriers) {}

  __device__ void begin(const TileCoord& tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      ids_[i] = tile.row + row(i) < tile.row_end ? __ldg(out_.ids + tile.row + row(i)) : 0;
    if (threadIdx.x % kWarpgroup > 0) return;
    tma_store_wait_read<0>();
    for (int part = 0; part < 2; ++part) load_h(tile, part);
  }
  __device__ void prefetch() {
#pragma unroll
    for (int i = 0; i < 4; ++i) gates_[i] = out_.gates[ids_[i]];
  }

  __device__ void store(const TileCoord& tile, const PingPongAccumulators& acc) {
    const bool is_first = threadIdx.x % kWarpgroup == 0;
    float dgates[2];
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int half = part / 2, num_rows = tile.row_end - first_row(tile, part);
      if (num_rows <= 0) break;
      const std::uint32_t h = slot(part), a = h + kSlotBytes;
      if (part % 2 == 0) dgates[0] = dgates[1] = 0;
      mbarrier_wait(barrier(part), phase_ ^ half, {"h full", part});
      backward<Function, kIsGated>(acc[half], part % 2, h, a, gates_ + 2 * half, dgates);
      fence_proxy_async();
      warpgroup_sync(consumer_);
      if (num_rows >= 64) {
        if (is_first) store_by_tma(tile, part, h, a);
      } else {
        store_by_rows(tile, part, num_rows, h, a);
        fence_proxy_async();
        warpgroup_sync(consumer_);
      }
      if (part < 2 && num_rows > 64 && is_first) {
        tma_store_wait_read<0>();
        load_h(tile, part + 2);
      }
      if (part % 2 == 1) store_dgates(tile, half, dgates);
    }
    // With the lower half each barrier completes two phases per tile.
    if (tile.row_end - tile.row <= 64) phase_ ^= 1;
  }
  __device__ void finish() const {
    if (threadIdx.x % kWarpgroup == 0) tma_store_wait();
  }

 private:
  // This thread's rows of a tile, two in each half.
  static __device__ int row(int i) {
    const int thread = threadIdx.x % kWarpgroup;
    return thread / 32 * 16 + thread % 32 / 4 + i / 2 * 64 + i % 2 * 8;
  }
  static __device__ int first_row(const TileCoord& tile, int part) {
    return tile.row + part / 2 * 64;
  }
  static __device__ int first_col(const TileCoord& tile, int part) {
    return tile.col_tile * kPingPongBlockN + part % 2 * 64;
  }
  // Of h; a follows.
  __device__ std::uint32_t slot(int part) const {
    return memory_ + part % 2 * (kSlotBytes + kSubtileBytes);
  }
  __device__ std::uint32_t barrier(int part) const {
    return barriers_ + part % 2 * 8;
  }

  __device__ void store_dgates(const TileCoord& tile, int half, const float (&dgates)[2]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float dgate = reduce_row(dgates[i]);
      const int at = tile.row + row(2 * half + i);
      if (threadIdx.x % 4 == 0 && at < tile.row_end) out_.partial(at, tile.col_tile) = dgate;
    }
  }
  __device__ void load_h(const TileCoord& tile, int part) const {
    const std::uint64_t policy = evict_first_policy();
    mbarrier_arrive_expect_tx(barrier(part), kSlotBytes);
    for (int half = 0; half < kHalves; ++half)
      tma_load(slot(part) + half * kSubtileBytes, args_.h_map, barrier(part),
               {first_col(tile, part), half, first_row(tile, part)}, policy);
  }
  __device__ void store_by_tma(const TileCoord& tile, int part, std::uint32_t h,
                               std::uint32_t a) const {
    const int col = first_col(tile, part), row = first_row(tile, part);
    const std::uint64_t policy = evict_first_policy();
    for (int half = 0; half < kHalves; ++half)
      tma_store(args_.h_map, h + half * kSubtileBytes, {col, half, row}, policy);
    tma_store(args_.a_map, a, {col, row, 0}, policy);
    tma_store_commit();
  }
  __device__ void store_by_rows(const TileCoord& tile, int part, int num_rows, std::uint32_t h,
                                std::uint32_t a) const {
    const int col = first_col(tile, part), row = first_row(tile, part);
    for (int half = 0; half < kHalves; ++half)
      store_rows(h + half * kSubtileBytes, num_rows, col, out_.cols,
                 out_.h + row * out_.h_stride + half * out_.cols, out_.h_stride);
    store_rows(a, num_rows, col, out_.cols, out_.a + row * out_.a_stride, out_.a_stride);
  }

  const Args& args_;
  const ActivateBackwardArgs<Bf16>& out_;
  int consumer_;
  std::uint32_t memory_, barriers_;
  std::uint32_t phase_ = 0;  // of the barriers at a tile's begin
  // Of this thread's rows; of pair 0 where there is no row.
  std::int32_t ids_[4] = {};
  float gates_[4] = {};
};

template <class Function, bool kIsGated>
using Gemm = GroupedGemm<true, WeightTile::columns, sm90_stages(ExpertGemm::down_backward),
                         ActivateBackward<Function, kIsGated>>;

template <class Function, bool kIsGated>
using PingPong = PingPongGemm<sm90_stages(ExpertGemm::down_backward, kSm90PingPongTile),
                              PingPongActivateBackward<Function, kIsGated>>;

template <class P>
__global__ void __launch_bounds__(kThreads, 1)
    expert_down_backward_sm90_kernel(const __grid_constant__ typename P::Args args) {
  run_grouped_gemm<P>(args);
}

template <class P>
__global__ void __launch_bounds__(kThreads, 1)
    expert_down_backward_pingpong_sm90_kernel(const __grid_constant__ typename P::Args args) {
  run_pingpong_gemm<P>(args);
}

template <class P>
typename P::Args kernel_args(const Launch& launch, const ExpertDownBackwardArgs& args,
                             const ExpertGemmConfig& config, int num_halves) {
  constexpr const char* kOp = "expert_down_backward";
  const std::int64_t f = args.a.cols, num_experts = args.routing.num_experts;
  return {.weight = weight_map(kOp, args.w2, num_experts, args.w2.rows, 64),
          .schedule = {.tile_counter = tile_counter(launch),
                       .expert_offsets = args.routing.expert_offsets,
                       .num_experts = static_cast<int>(num_experts),
                       .col_tiles = static_cast<int>(ceil_div(f, config.tile.n))},
          .k = static_cast<int>(args.dout.cols),
          .rows = static_cast<const Bf16*>(args.dout.data),
          .row_bytes = row_bytes(args.dout),
          .index = RowIndex(args.routing, RowLayout::scattered, args.dout.rows),
          .epilogue = {
              .h_map = halves_map(kOp, args.h, num_halves),
              .a_map = matrix_map(kOp, args.a, 64),
              .out = activate_backward_args<Bf16>(args, static_cast<int>(config.num_partials(f)))}};
}

template <class Function, bool kIsGated>
void run(const Launch& launch, const ExpertDownBackwardArgs& args, const ExpertGemmConfig& config) {
  constexpr const char* kOp = "expert_down_backward";
  constexpr int kHalves = kIsGated ? 2 : 1;
  if (config.tile.n == kPingPongBlockN) {
    using P = PingPong<Function, kIsGated>;
    launch_clusters<1>(launch, kOp, expert_down_backward_pingpong_sm90_kernel<P>, P::kSharedBytes,
                       kernel_args<P>(launch, args, config, kHalves));
  } else {
    using P = Gemm<Function, kIsGated>;
    launch_clusters(launch, kOp, expert_down_backward_sm90_kernel<P>, P::kSharedBytes,
                    kernel_args<P>(launch, args, config, kHalves));
  }
}

}  // namespace

void expert_down_backward(const Launch& launch, const ExpertDownBackwardArgs& args,
                          const ExpertGemmConfig& config) {
  dispatch_kind(args.kind, [&](auto function, auto is_gated) {
    run<decltype(function), is_gated>(launch, args, config);
  });
}

}  // namespace smoe::kernels::cuda::sm90
