// expert_down_backward for compute capability 9.0: da = W2^T dout; h becomes dh, a is recomputed,
// and each row's gate gradient is reduced over the tile's columns.
//
// Two forms, by k = D: ping-pong (pingpong_wgmma.cuh) up to kSm90PingPongMaxK, where the epilogue
// takes as long as the mainloop; above, cooperative (grouped_wgmma.cuh).
// Grid:      one persistent block per SM, 384 threads, cooperative in clusters of 2. Producers
//            gather dout by cp.async; roles and registers as in those files.
// Shared:    cooperative: 3 stages (144 KiB); per consumer four slots of h (GLU and up, 8 KiB each)
//            and two of a (4 KiB each). Ping-pong: 4 stages (128 KiB); per consumer two slots of h
//            (16 KiB each) and of a (8 KiB each).
// Epilogue:  parts of 32 columns (ping-pong 64, whole lines of L2) in turn: h arrives by TMA ahead
//            of its part, becomes dh in place and is stored over h, and its slot is loaded again
//            during the next part, when the store has read it. In an expert's last rows it also
//            reads rows that another block may be writing, and uses none of them.
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

// The sum over the four lanes of a row.
__device__ inline float reduce_row(float dgate) {
  dgate += __shfl_xor_sync(~0u, dgate, 1);
  return dgate + __shfl_xor_sync(~0u, dgate, 2);
}

struct Part {
  int row, num_rows, col;  // num_rows, to the expert's end, may exceed 64
};

/// A tile's results leave a consumer in parts of 64 rows and kCols columns. Part i's h has slot
/// i % kSlots and its a slot i % kASlots.
template <class Function, bool kIsGated, bool kIsPingPong>
class Parts {
 public:
  static constexpr int kCols = kIsPingPong ? 64 : 32;
  static constexpr int kSlots = 128 / kCols, kASlots = 2;
  static constexpr int kHalves = kIsGated ? 2 : 1;
  static constexpr int kPartBytes = 64 * kCols * int{sizeof(Bf16)};
  static constexpr int kSlotBytes = kHalves * kPartBytes;
  static constexpr int kBytes = kSlots * kSlotBytes + kASlots * kPartBytes;

  __device__ Parts(const EpilogueArgs& args, int consumer, std::uint32_t memory,
                   std::uint32_t barriers)
      : args_(args), consumer_(consumer), memory_(memory), barriers_(barriers) {}

  /// Called by the first thread of the warpgroup.
  __device__ void load(int i, const Part& part) const {
    mbarrier_arrive_expect_tx(barrier(i), kSlotBytes);
    for (int half = 0; half < kHalves; ++half) {
      const std::uint32_t to = h(i) + half * kPartBytes;
      const TmaCoord at{part.col, half, part.row};
      if constexpr (kIsPingPong)
        tma_load(to, args_.h_map, barrier(i), at, evict_first_policy());
      else
        tma_load(to, args_.h_map, barrier(i), at);
    }
  }
  /// Turns part i's h into dh and stores it and a. `acc` are the da of the columns of its row of
  /// parts, of which it is number `in_row`; this thread's two rows have `gates`, and `dgates`
  /// accumulates their gradients. The first thread calls `reload` once the slot of the part
  /// before may be loaded to.
  template <class Reload>
  __device__ void run(int i, std::uint32_t phase, const Part& part, const float* acc, int in_row,
                      const float* gates, float* dgates, Reload&& reload) const {
    const bool is_first = threadIdx.x % kWarpgroup == 0;
    mbarrier_wait(barrier(i), phase, {"h full", i % kSlots});
    // The first thread has seen that the memory of this a was read; ping-pong in the part before.
    if constexpr (!kIsPingPong) warpgroup_sync(consumer_);
    compute_dh(i, acc, in_row, gates, dgates, [&] {
      // Ping-pong has half the slots, so it loads as soon as the store may have read one.
      if (!kIsPingPong || !is_first) return;
      tma_store_wait_read<0>();
      reload();
    });
    fence_proxy_async();
    warpgroup_sync(consumer_);
    if (part.num_rows >= 64) {
      if (is_first) store_by_tma(i, part);
    } else {
      store_by_rows(i, part);
      fence_proxy_async();
      warpgroup_sync(consumer_);
    }
    if (!kIsPingPong && is_first) {
      tma_store_wait_read<1>();
      reload();
    }
  }

 private:
  __device__ std::uint32_t h(int i) const { return memory_ + i % kSlots * kSlotBytes; }
  __device__ std::uint32_t a(int i) const {
    return memory_ + kSlots * kSlotBytes + i % kASlots * kPartBytes;
  }
  __device__ std::uint32_t barrier(int i) const { return barriers_ + i % kSlots * 8; }

  // Calls `after_first` after the first fragments.
  template <class AfterFirst>
  __device__ void compute_dh(int i, const float* acc, int in_row, const float* gates, float* dgates,
                             AfterFirst&& after_first) const {
    constexpr int kPairs = kCols / 16;  // of fragments
    const int thread = threadIdx.x % kWarpgroup, lane = thread % kWarp;
    const int row = thread / kWarp * 16 + lane % 16;
    std::uint32_t glu_words[kPairs][4], up_words[kPairs][4];  // all loaded first
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      const std::uint32_t from = h(i) + part_offset<kCols>(row, 2 * pair + lane / 16);
      ldmatrix_x4<false>(from, glu_words[pair]);
      if (kIsGated) ldmatrix_x4<false>(from + kPartBytes, up_words[pair]);
    }
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      std::uint32_t activated[4];
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        const float* const da = acc + ((in_row * kPairs + pair) * 2 + word / 2) * 4 + word % 2 * 2;
        const float2 glu = unpack_bf16(glu_words[pair][word]);
        const float2 up = kIsGated ? unpack_bf16(up_words[pair][word]) : float2{};
        const float gate = gates[word % 2];
        const auto x = activate_backward<Bf16, Function, kIsGated>(glu.x, up.x, gate, da[0]);
        const auto y = activate_backward<Bf16, Function, kIsGated>(glu.y, up.y, gate, da[1]);
        glu_words[pair][word] = pack_bf16(x.dglu, y.dglu);
        if (kIsGated) up_words[pair][word] = pack_bf16(x.dup, y.dup);
        activated[word] = pack_bf16(x.a, y.a);
        dgates[word % 2] += x.dgate + y.dgate;
      }
      const std::uint32_t offset = part_offset<kCols>(row, 2 * pair + lane / 16);
      stmatrix_x4<false>(a(i) + offset, activated);
      stmatrix_x4<false>(h(i) + offset, glu_words[pair]);
      if (kIsGated) stmatrix_x4<false>(h(i) + kPartBytes + offset, up_words[pair]);
      if (pair == 0) after_first();
    }
  }

  __device__ void store_by_tma(int i, const Part& part) const {
    const auto store = [](const CUtensorMap& map, std::uint32_t from, const TmaCoord& at) {
      if constexpr (kIsPingPong)
        tma_store(map, from, at, evict_first_policy());
      else
        tma_store(map, from, at);
    };
    for (int half = 0; half < kHalves; ++half)
      store(args_.h_map, h(i) + half * kPartBytes, {part.col, half, part.row});
    store(args_.a_map, a(i), {part.col, part.row, 0});
    tma_store_commit();
  }
  __device__ void store_by_rows(int i, const Part& part) const {
    const ActivateBackwardArgs<Bf16>& out = args_.out;
    for (int half = 0; half < kHalves; ++half)
      store_rows(h(i) + half * kPartBytes, part, out.cols,
                 out.h + part.row * out.h_stride + half * out.cols, out.h_stride);
    store_rows(a(i), part, out.cols, out.a + part.row * out.a_stride, out.a_stride);
  }
  // `to` points to column 0 of the part's first row.
  static __device__ void store_rows(std::uint32_t from, const Part& part, int cols, Bf16* to,
                                    std::int64_t stride) {
    constexpr int kChunks = kCols / 8, kRowStep = kWarpgroup / kChunks;
    const int thread = threadIdx.x % kWarpgroup, chunk = thread % kChunks;
    const int col = part.col + chunk * 8;
#pragma unroll
    for (int i = 0; i < 64 / kRowStep; ++i) {
      const int row = thread / kChunks + kRowStep * i;
      if (row < part.num_rows && col < cols)
        *reinterpret_cast<uint4*>(to + row * stride + col) =
            load_shared<uint4>(from + part_offset<kCols>(row, chunk));
    }
  }

  const EpilogueArgs& args_;
  int consumer_;
  std::uint32_t memory_, barriers_;
};

template <class Function, bool kIsGated>
class ActivateBackward {
 public:
  using Args = EpilogueArgs;
  using Parts = sm90::Parts<Function, kIsGated, false>;
  static constexpr int kBytes = Parts::kBytes;
  static constexpr int kSlots = Parts::kSlots, kParts = kBlockN / Parts::kCols;
  static_assert(kParts == 2 * kSlots);  // each barrier completes two phases per tile

  __device__ ActivateBackward(const Args& args, int consumer, std::uint32_t memory,
                              std::uint32_t barriers)
      : out_(args.out), parts_(args, consumer, memory, barriers) {}

  __device__ void begin(const ConsumerTile& tile) {
    for (int i = 0; i < 2; ++i)
      gates_[i] = row() + 8 * i < tile.num_rows ? out_.gate(tile.row + row() + 8 * i) : 0;
  }
  // After the first wgmmas are issued, because it waits for the previous tile's stores.
  __device__ void prefetch(const ConsumerTile& tile) const {
    if (threadIdx.x % kWarpgroup > 0) return;
    tma_store_wait_read<0>();
    for (int i = 0; i < kSlots; ++i) parts_.load(i, part(tile, i));
  }

  __device__ void store(const ConsumerTile& tile, const Accumulators& acc) const {
    float dgates[2] = {};
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      parts_.run(i, i / kSlots, part(tile, i), acc, i, gates_, dgates, [&] {
        const int next = i - 1 + kSlots;
        if (i > 0 && next < kParts) parts_.load(next, part(tile, next));
      });
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
  static __device__ Part part(const ConsumerTile& tile, int i) {
    return {tile.row, tile.num_rows, tile.col_tile * kBlockN + i * Parts::kCols};
  }

  const ActivateBackwardArgs<Bf16>& out_;
  Parts parts_;
  float gates_[2] = {};  // of this thread's rows
};

// Ping-pong: the parts of the upper 64 rows first.
template <class Function, bool kIsGated>
class PingPongActivateBackward {
 public:
  using Args = EpilogueArgs;
  using Parts = sm90::Parts<Function, kIsGated, true>;
  static constexpr int kBytes = Parts::kBytes;
  static constexpr int kSlots = Parts::kSlots, kPartsOfHalf = kPingPongBlockN / Parts::kCols;
  static_assert(kPartsOfHalf == kSlots);

  __device__ PingPongActivateBackward(const Args& args, int consumer, std::uint32_t memory,
                                      std::uint32_t barriers)
      : out_(args.out), parts_(args, consumer, memory, barriers) {}

  __device__ void begin(const TileCoord& tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      ids_[i] = tile.row + row(i) < tile.row_end ? __ldg(out_.ids + tile.row + row(i)) : 0;
    if (threadIdx.x % kWarpgroup > 0) return;
    tma_store_wait_read<0>();
    for (int i = 0; i < kSlots; ++i) parts_.load(i, part(tile, i));
  }
  __device__ void prefetch() {
    // Without this the compiler waits for the ids before the consumer's turn.
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(ids_[i]));
#pragma unroll
    for (int i = 0; i < 4; ++i) gates_[i] = out_.gates[ids_[i]];
  }

  __device__ void store(const TileCoord& tile, const PingPongAccumulators& acc) {
    const bool has_lower_half = tile.row_end - tile.row > 64;
    float dgates[2];
#pragma unroll
    for (int i = 0; i < 2 * kPartsOfHalf; ++i) {
      const int half = i / kPartsOfHalf, in_half = i % kPartsOfHalf;
      if (half == 1 && !has_lower_half) break;
      if (in_half == 0) dgates[0] = dgates[1] = 0;
      parts_.run(i, phase_ ^ half, part(tile, i), acc[half], in_half, gates_ + 2 * half, dgates,
                 [&] {
                   const int next = i - 1 + kSlots;
                   if (i > 0 && next < 2 * kPartsOfHalf && has_lower_half)
                     parts_.load(next, part(tile, next));
                 });
      if (in_half == kPartsOfHalf - 1) store_dgates(tile, half, dgates);
    }
    // With the lower half each barrier completes two phases per tile.
    if (!has_lower_half) phase_ ^= 1;
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
  static __device__ Part part(const TileCoord& tile, int i) {
    const int row = tile.row + i / kPartsOfHalf * 64;
    return {row, tile.row_end - row,
            tile.col_tile * kPingPongBlockN + i % kPartsOfHalf * Parts::kCols};
  }

  __device__ void store_dgates(const TileCoord& tile, int half, const float (&dgates)[2]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float dgate = reduce_row(dgates[i]);
      const int at = tile.row + row(2 * half + i);
      if (threadIdx.x % 4 == 0 && at < tile.row_end) out_.partial(at, tile.col_tile) = dgate;
    }
  }

  const ActivateBackwardArgs<Bf16>& out_;
  Parts parts_;
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
  constexpr int kPartCols = P::Epilogue::Parts::kCols;
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
              .h_map = halves_map(kOp, args.h, num_halves, kPartCols),
              .a_map = matrix_map(kOp, args.a, 64, kPartCols),
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
