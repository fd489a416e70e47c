// Weight gradient for compute capability 9.0: dW = dy^T x over each expert's rows.
//
// Grid:        one persistent block per SM, clusters of 2, 384 threads; tiles from a counter
//              (tile_queue.cuh), experts with the most rows first. A tile belongs to one block:
//              deterministic.
// Tile:        128 columns of the gathered operand (A) x 256 columns of the grouped one (B), both
//              MN-major: one shared-memory row per k. The blocks of a cluster have different A and
//              multicast B.
// Warp roles:  warpgroups 0 and 1 consume 64 columns of A each; warpgroup 2 produces: A gathered by
//              cp.async, B by TMA.
// Registers:   consumers 224, producer 56.
// Shared:      SharedLayout: 4 stages (192 KiB), two 8 KiB slots of results per consumer,
//              mbarriers, tile queue, order of experts.
// Epilogue:    f32 accumulators through shared memory, then TMA store (beta 0) or reduce-add (1).
#include <cstddef>

#include "kernels/ceil_div.h"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/row_index.cuh"
#include "kernels/cuda/device/tile_order.cuh"
#include "kernels/cuda/experts/forms.h"
#include "kernels/cuda/experts/operand_sides.h"
#include "kernels/cuda/experts/sm90/epilogue.cuh"
#include "kernels/cuda/experts/sm90/launch.cuh"
#include "kernels/cuda/experts/sm90/tile_queue.cuh"

namespace smoe::kernels::cuda::sm90 {
namespace {

constexpr int kSlots = 2;  // of a consumer's results
constexpr int kSlotBytes = 8192;
using WeightGradientPipeline = Pipeline<sm90_stages(ExpertGemm::weight_gradient)>;
constexpr int kProducer = kNumConsumers;  // the producer warpgroup's index, after the consumers

struct Args {
  CUtensorMap grouped;  // B, a ragged map
  CUtensorMap dweight;  // [E, D_out, D_in]
  const std::int32_t* expert_offsets;
  int num_experts;
  int row_tiles, col_tiles;  // of A's columns and of B's
  const Bf16* gathered;      // A
  std::uint32_t row_bytes;   // the whole operand is smaller than 4 GiB
  int gathered_cols;
  RowIndex index;
  bool accumulates;
  int* tile_counter;
};

using Queue = TileQueue<kClusterSize>;

// The experts that have rows, in descending order of their number: a long reduction that starts
// last would run while all other SMs are idle.
struct ExpertOrder {
  int num_used;
  std::uint16_t experts[kSm90MaxExperts];

  /// Called by all threads. `scratch` has room for num_experts numbers.
  __device__ void build(const std::int32_t* expert_offsets, int num_experts, int* scratch) {
    const auto num_rows = [&](int expert) {
      return __ldg(expert_offsets + expert + 1) - __ldg(expert_offsets + expert);
    };
    for (int i = threadIdx.x; i < num_experts; i += kThreads) scratch[i] = num_rows(i);
    if (threadIdx.x == 0) num_used = 0;
    __syncthreads();
    for (int expert = threadIdx.x; expert < num_experts; expert += kThreads) {
      const int own = scratch[expert];
      int place = 0;
      for (int other = 0; other < num_experts; ++other)
        place += scratch[other] > own || (scratch[other] == own && other < expert);
      experts[place] = static_cast<std::uint16_t>(expert);
      if (own > 0) atomicAdd(&num_used, 1);
    }
    fence_proxy_async();  // the scratch memory is a stage's
    __syncthreads();
  }
};

struct TileCoord {
  int expert;  // -1 after the last tile
  int row_tile, col_tile;
  int k_begin, num_k;

  __device__ explicit TileCoord(const int4& tile)
      : expert(tile.x),
        row_tile(tile.y >> 16),
        col_tile(tile.y & 0xFFFF),
        k_begin(tile.z),
        num_k(tile.w) {}
  __device__ bool is_end() const { return expert < 0; }
  __device__ int num_k_tiles() const { return (num_k + kBlockK - 1) / kBlockK; }
};

/// Publishes the tiles of a cluster, then the end. All functions are called by one thread of
/// cluster block 0.
class GradientTileScheduler {
 public:
  /// It has taken `first_number`.
  __device__ GradientTileScheduler(const Args& args, const Queue& queue, const ExpertOrder& order,
                                   int first_number)
      : args_(args), queue_(queue), order_(order), number_(first_number) {}

  /// Publishes tile i of the queue, or the end.
  __device__ void publish(int i) {
    constexpr int kBand = 4;  // of row tile pairs
    const int pairs = (args_.row_tiles + 1) / 2, tiles_per_expert = pairs * args_.col_tiles;
    const int num_tiles = order_.num_used * tiles_per_expert;
    int4 tiles[kClusterSize]{{-1, 0, 0, 0}, {-1, 0, 0, 0}};
    const bool is_end = number_ >= num_tiles;
    if (!is_end) {
      const int place = number_ / tiles_per_expert;
      const TileOrder<kBand> at(number_ - place * tiles_per_expert, pairs, args_.col_tiles);
      const int expert = order_.experts[place];
      const int begin = __ldg(args_.expert_offsets + expert);
      const int num_rows = __ldg(args_.expert_offsets + expert + 1) - begin;
      for (int rank = 0; rank < kClusterSize; ++rank)
        tiles[rank] = {expert, (at.row * kClusterSize + rank) << 16 | at.col, begin, num_rows};
    }
    queue_.publish(i, tiles);
    if (is_end)
      finish_tiles(args_.tile_counter, number_, num_tiles);
    else
      number_ = take_tile(args_.tile_counter);
  }

 private:
  const Args& args_;
  const Queue& queue_;
  const ExpertOrder& order_;
  int number_;
};

/// Thread t copies chunk t % 16 of rows t / 16 + 8 i of each k tile. Both operands are zero past
/// the expert's last row: with zeros in A only, a value of the next expert's rows that is not
/// finite would reach this expert's gradient.
__device__ inline void produce(const Args& args, const WeightGradientPipeline& pipeline,
                               const Queue& queue, const ExpertOrder& order, int first_number) {
  constexpr int kRows = 8;
  const int thread = threadIdx.x % kWarpgroup, lane = thread % kWarp, rank = cluster_rank();
  const int chunk = thread % 16, row = thread / 16;
  const std::uint32_t target = chunk / 8 * kSubtileBytes + swizzled_offset(row, chunk % 8);
  // The lanes of a warp look up its 16 rows of a k tile: lane l row 8 (l / 2) + l % 2 from the
  // first.
  const int own_row = 2 * (thread / kWarp) + lane % 2 + 8 * (lane / 2 % 8);
  WeightGradientPipeline::State state(1);
  GradientTileScheduler scheduler(args, queue, order, first_number);
  const bool schedules = thread == 0 && rank == 0;
  if (schedules) scheduler.publish(0);
  for (int i = 0;; ++i) {
    __syncwarp();
    const TileCoord tile(queue.read(i));
    if (tile.is_end()) return;
    if (schedules) scheduler.publish(i + 1);
    const int col = tile.row_tile * kBlockM + chunk * 8;
    const bool is_in = col < args.gathered_cols;
    const Bf16* const source = args.gathered + (is_in ? col : 0);
    const int k_end = tile.k_begin + tile.num_k;
    int next_id = args.index.id(tile.k_begin + own_row, k_end);
    for (int k = 0; k < tile.num_k; k += kBlockK) {
      // From the id loaded one k tile earlier: dividing the id loaded here would wait for its load.
      const std::uint32_t offset =
          static_cast<std::uint32_t>(args.index.row_of(next_id)) * args.row_bytes;
      next_id = args.index.id(tile.k_begin + k + kBlockK + own_row, k_end);
      const int stage = state.stage();
      mbarrier_wait(pipeline.empty_barrier(stage), state.phase(), {"stage empty", stage});
      if (thread == 0) {
        mbarrier_arrive_expect_tx(pipeline.full_barrier(stage), kStageBytesB);
        const int num_rows = min(tile.num_k - k, kBlockK);
        for (int i = 0; i < 2; ++i) {
          const int subtile = 2 * rank + i;
          tma_load_multicast(
              pipeline.tile_b(stage) + subtile * kSubtileBytes, args.grouped,
              pipeline.full_barrier(stage),
              make_int4(tile.col_tile * kBlockN + subtile * 64, kRaggedOrigin - num_rows,
                        tile.k_begin + k + num_rows, kRaggedOrigin));
        }
      }
      __syncwarp();
      const std::uint32_t to = pipeline.tile_a(stage) + target;
#pragma unroll
      for (int i = 0; i < kRows; ++i)
        cp_async(to + i * 8 * kRowBytes,
                 offset_pointer(source, __shfl_sync(~0u, offset, 2 * i + lane / 16)),
                 is_in && k + row + 8 * i < tile.num_k);
      cp_async_mbarrier_arrive(pipeline.full_barrier(stage));
      state.advance();
    }
  }
}

/// Stores a consumer's accumulators. The columns of the gathered operand are the rows of dW, or its
/// columns if kIsTransposed.
template <bool kIsTransposed>
class StoreGradient {
 public:
  static constexpr int kBytes = kSlots * kSlotBytes;
  static constexpr int kChunkCols = 32;  // of the grouped operand per slot

  __device__ StoreGradient(const Args& args, int consumer, std::uint32_t memory)
      : args_(args), consumer_(consumer), memory_(memory) {}

  __device__ void store(const TileCoord& tile, const Accumulators& acc) {
    const bool is_first = threadIdx.x % kWarpgroup == 0;
#pragma unroll
    for (int chunk = 0; chunk < kBlockN / kChunkCols; ++chunk) {
      const std::uint32_t slot = memory_ + slot_ * kSlotBytes;
      if (is_first) tma_store_wait_read<kSlots - 1>();
      warpgroup_sync(consumer_);
      kIsTransposed ? write_transposed(acc, chunk, slot) : write(acc, chunk, slot);
      fence_proxy_async();
      warpgroup_sync(consumer_);
      if (is_first) {
        const int row = tile.row_tile * kBlockM + consumer_ * 64;
        const int col = tile.col_tile * kBlockN + chunk * kChunkCols;
        if constexpr (kIsTransposed) {
          store_box(slot, {row, col, tile.expert});
          store_box(slot + kSlotBytes / 2, {row + 32, col, tile.expert});
        } else {
          store_box(slot, {col, row, tile.expert});
        }
        tma_store_commit();
      }
      slot_ = (slot_ + 1) % kSlots;
    }
  }
  __device__ void finish() const {
    if (threadIdx.x % kWarpgroup == 0) tma_store_wait();
  }

 private:
  __device__ void store_box(std::uint32_t from, const TmaCoord& at) const {
    args_.accumulates ? tma_reduce_add(args_.dweight, from, at)
                      : tma_store(args_.dweight, from, at);
  }

  // 64 rows of 32 f32. Odd rows write the other half of a chunk's columns first: no bank conflicts.
  static __device__ void write(const Accumulators& acc, int chunk, std::uint32_t slot) {
    const int thread = threadIdx.x % kWarpgroup, lane = thread % kWarp;
    const bool is_odd = lane & 4;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
        const float* const near = acc + (chunk * 4 + i) * 4 + lower * 2;
        const float* const far = near + 8;
        const int row = thread / kWarp * 16 + lower * 8 + lane / 4;
        const int at = (i ^ (is_odd ? 2 : 0)) * 2 + lane % 4 / 2;  // in 16-byte chunks
        store_shared(slot + swizzled_offset(row, at) + lane % 2 * 8, is_odd ? far[0] : near[0],
                     is_odd ? far[1] : near[1]);
        store_shared(slot + swizzled_offset(row, at ^ 4) + lane % 2 * 8, is_odd ? near[0] : far[0],
                     is_odd ? near[1] : far[1]);
      }
  }
  // Two boxes of 32 rows, one row per column of the grouped operand.
  static __device__ void write_transposed(const Accumulators& acc, int chunk, std::uint32_t slot) {
    const int thread = threadIdx.x % kWarpgroup, lane = thread % kWarp, warp = thread / kWarp;
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
        const float* const pair = acc + (chunk * 4 + i) * 4 + lower * 2;
        const int row = i * 8 + lane % 4 * 2, at = warp % 2 * 4 + lower * 2 + lane / 16;
        const std::uint32_t box = slot + warp / 2 * (kSlotBytes / 2) + lane / 4 % 4 * 4;
        store_shared(box + swizzled_offset(row, at), pair[0]);
        store_shared(box + swizzled_offset(row + 1, at), pair[1]);
      }
  }
  static __device__ void store_shared(std::uint32_t to, float a, float b) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(a), "f"(b) : "memory");
  }
  static __device__ void store_shared(std::uint32_t to, float a) {
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(a) : "memory");
  }

  const Args& args_;
  int consumer_;
  std::uint32_t memory_;
  int slot_ = 0;
};

struct SharedLayout {
  unsigned char stages[WeightGradientPipeline::kBytes];
  unsigned char epilogue[kNumConsumers][StoreGradient<false>::kBytes];
  std::uint64_t pipeline_barriers[WeightGradientPipeline::kNumBarriers];
  alignas(16) unsigned char tile_queue[Queue::kBytes];
  ExpertOrder order;
};
static_assert(sizeof(SharedLayout) <= kMaxSharedBytes);

template <bool kIsTransposed>
__device__ void consume(const Args& args, const WeightGradientPipeline& pipeline,
                        const Queue& queue, int consumer, std::uint32_t shared) {
  using Epilogue = StoreGradient<kIsTransposed>;
  Epilogue epilogue(args, consumer,
                    shared + int{offsetof(SharedLayout, epilogue)} + consumer * Epilogue::kBytes);
  WeightGradientPipeline::State state(0);
  Accumulators acc;
  int i = 0;
  TileCoord next(queue.read(i));
  while (!next.is_end()) {
    const TileCoord tile = next;
    const int last = mainloop<Major::mn, Major::mn, true>(pipeline, state, consumer,
                                                          tile.num_k_tiles(), true, acc, [] {});
    next = TileCoord(queue.read(++i));
    wgmma_wait<0>();
    pipeline.release(last);
    epilogue.store(tile, acc);
  }
  epilogue.finish();
}

template <bool kIsTransposed>
__global__ void __launch_bounds__(kThreads, 1)
    expert_weight_gradient_sm90_kernel(const __grid_constant__ Args args) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const std::uint32_t shared = shared_address(memory);
  const WeightGradientPipeline pipeline(shared,
                                        shared + int{offsetof(SharedLayout, pipeline_barriers)});
  const Queue queue(shared + int{offsetof(SharedLayout, tile_queue)});
  ExpertOrder& order = reinterpret_cast<SharedLayout*>(memory)->order;
  // Prologue.
  const int first_number = threadIdx.x == kProducer * kWarpgroup && cluster_rank() == 0
                               ? take_tile(args.tile_counter)
                               : 0;
  if (threadIdx.x == 0) {
    pipeline.init(kWarpgroup + 1);
    queue.init(kThreads / kWarp);
    fence_barrier_init();
    prefetch_tensor_map(args.grouped);
    prefetch_tensor_map(args.dweight);
  }
  order.build(args.expert_offsets, args.num_experts, reinterpret_cast<int*>(memory));
  cluster_sync();
  const int warpgroup = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
  if (warpgroup == kProducer) {
    setmaxnreg_dec<56>();
    produce(args, pipeline, queue, order, first_number);
  } else {
    setmaxnreg_inc<224>();
    consume<kIsTransposed>(args, pipeline, queue, warpgroup, shared);
  }
  cluster_sync();  // the other block may still write to this block's shared memory
}

CUtensorMap dweight_map(const char* op, const ExpertGradientArgs& args, bool is_transposed) {
  const std::int64_t d_out = args.dy.rows.cols, d_in = args.x.rows.cols;
  return make_tensor_map(op,
                         {.data = args.dweight,
                          .dtype = DType::f32,
                          .size = {d_in, d_out, args.routing.num_experts},
                          .stride = {d_in * 4, d_in * d_out * 4}},
                         {32, is_transposed ? 32 : 64, 1});
}

}  // namespace

void weight_gradient(const Launch& launch, const ExpertGradientArgs& args,
                     const ExpertGemmConfig&) {
  constexpr const char* kOp = "expert_gradient";
  const OperandSides sides = operand_sides(args);
  const ConstMatrix &gathered = sides.gathered.rows, &grouped = sides.other.rows;
  const Args kernel_args{.grouped = make_ragged_map(kOp, grouped.data, grouped.rows, grouped.cols,
                                                    stride_bytes(grouped)),
                         .dweight = dweight_map(kOp, args, sides.gathers_x),
                         .expert_offsets = args.routing.expert_offsets,
                         .num_experts = static_cast<int>(args.routing.num_experts),
                         .row_tiles = static_cast<int>(ceil_div(gathered.cols, kBlockM)),
                         .col_tiles = static_cast<int>(ceil_div(grouped.cols, kBlockN)),
                         .gathered = static_cast<const Bf16*>(gathered.data),
                         .row_bytes = row_bytes(gathered),
                         .gathered_cols = static_cast<int>(gathered.cols),
                         .index = RowIndex(args.routing, sides.gathered.layout, gathered.rows),
                         .accumulates = args.beta == 1,
                         .tile_counter = tile_counter(launch)};
  launch_clusters(launch, kOp,
                  sides.gathers_x ? expert_weight_gradient_sm90_kernel<true>
                                  : expert_weight_gradient_sm90_kernel<false>,
                  int{sizeof(SharedLayout)}, kernel_args);
}

}  // namespace smoe::kernels::cuda::sm90
