// Weight gradient for compute capability 9.0: dW = dy^T x over each expert's rows.
//
// Grid:        one persistent block per SM, clusters of 2, 384 threads; tiles from a counter
//              (gradient_tiles.cuh), experts with the most rows first. A tile belongs to one block:
//              deterministic.
// Tile:        128 columns of the gathered operand (A) x 256 columns of the other one (B), both
//              MN-major: one shared-memory row per k. The blocks of a cluster have different A and
//              the same B, of which each loads one half.
// Warp roles:  warpgroups 0 and 1 consume 64 columns of A each; warpgroup 2 produces: A gathered by
//              cp.async, B by multicast TMA.
// Registers:   consumers 224, producer 56.
// Shared:      SharedLayout: 4 stages (192 KiB), two 8 KiB slots of results per consumer,
//              mbarriers, tile queue, order of experts.
// Epilogue:    of an f32 gradient, accumulators through shared memory, then TMA store (beta 0) or
//              reduce-add (1); of a bf16 gradient as in bf16_gradient.cuh.
#include <cstddef>
#include <type_traits>

#include "kernels/ceil_div.h"
#include "kernels/cuda/experts/forms.h"
#include "kernels/cuda/experts/operand_sides.h"
#include "kernels/cuda/experts/sm90/bf16_gradient.cuh"
#include "kernels/cuda/experts/sm90/gathered_columns.cuh"
#include "kernels/cuda/experts/sm90/gradient_tiles.cuh"
#include "kernels/cuda/experts/sm90/launch.cuh"

namespace smoe::kernels::cuda::sm90 {
namespace {

using WeightGradientPipeline = Pipeline<sm90_stages(ExpertGemm::weight_gradient)>;
using Registers = RegisterSplit<56, 224>;

constexpr int kSlots = 2;  // of a consumer's results
constexpr int kSlotBytes = 8192;
constexpr int kProducer = kNumConsumers;  // the producer warpgroup's index, after the consumers

struct Args {
  CUtensorMap grouped;  // B, a ragged map
  CUtensorMap dweight;  // [E, D_out, D_in]
  GradientTilesArgs schedule;
  GatheredOperand a;
  bool accumulates;
  bool overlaps_preceding;
};

/// Both operands are zero past the expert's last row: with zeros in A only, a value of the next
/// expert's rows that is not finite would reach this expert's gradient.
__device__ void produce(const Args& args, const WeightGradientPipeline& pipeline,
                        const GradientTileQueue& queue, const ExpertOrder& order,
                        int first_number) {
  const int thread = threadIdx.x % kWarpgroup, rank = cluster_rank();
  WeightGradientPipeline::State state(1);
  GradientTileScheduler scheduler(args.schedule, queue, order, first_number);
  const bool schedules = thread == 0 && rank == 0;
  if (schedules) scheduler.publish(0);
  for (int i = 0;; ++i) {
    __syncwarp();
    const GradientTile tile(queue.read(i));
    if (tile.is_end()) return;
    if (schedules) scheduler.publish(i + 1);
    // By its second tile a block finds the preceding kernel complete.
    if (args.overlaps_preceding && i == 1) follow_preceding_kernel();
    __syncwarp();
    const GatheredCols a(args.a, tile.row_tile * kBlockM);
    GatheredIds ids(args.a.index, tile.k_begin, tile.num_k);
    for (int k = 0; k < tile.num_k_tiles() * kBlockK; k += kBlockK) {
      const std::uint32_t offset = args.a.offset(ids.next());
      const int stage = state.stage(), num_rows = min(tile.num_k - k, kBlockK);
      const std::uint32_t full = pipeline.full_barrier(stage);
      mbarrier_wait(pipeline.empty_barrier(stage), state.phase(), {"stage empty", stage});
      if (thread == 0) {
        mbarrier_arrive_expect_tx(full, kStageBytesB);
        for (int i = 0; i < 2; ++i) {
          const int subtile = 2 * rank + i;
          tma_load_multicast(
              pipeline.tile_b(stage) + subtile * kSubtileBytes, args.grouped, full,
              make_int4(tile.col_tile * kBlockN + subtile * 64, kRaggedOrigin - num_rows,
                        tile.k_begin + k + num_rows, kRaggedOrigin));
        }
      }
      __syncwarp();
      a.copy(pipeline.tile_a(stage), offset, num_rows);
      cp_async_mbarrier_arrive(full);
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

  __device__ void prefetch(const GradientTile&) const {}
  __device__ void store(const GradientTile& tile, const Accumulators& acc) {
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
  alignas(16) unsigned char tile_queue[GradientTileQueue::kBytes];
  ExpertOrder order;
  std::uint64_t epilogue_barriers[kNumConsumers][kBf16GradientSlots];  // of a bf16 gradient
};
static_assert(StoreBf16Gradient<false>::kBytes <= StoreGradient<false>::kBytes);
static_assert(sizeof(SharedLayout) <= kMaxSharedBytes);

__device__ std::uint32_t epilogue_barriers(std::uint32_t shared, int consumer) {
  return shared + int{offsetof(SharedLayout, epilogue_barriers)} +
         consumer * kBf16GradientSlots * 8;
}

// G stores the gradient.
template <bool kIsTransposed, class G>
__device__ auto make_epilogue(const Args& args, int consumer, std::uint32_t shared) {
  const std::uint32_t memory = shared + int{offsetof(SharedLayout, epilogue)} +
                               consumer * StoreGradient<kIsTransposed>::kBytes;
  if constexpr (std::is_same_v<G, float>)
    return StoreGradient<kIsTransposed>(args, consumer, memory);
  else
    return StoreBf16Gradient<kIsTransposed>(args.dweight, args.accumulates, consumer, memory,
                                            epilogue_barriers(shared, consumer));
}

template <bool kIsTransposed, class G>
__device__ void consume(const Args& args, const WeightGradientPipeline& pipeline,
                        const GradientTileQueue& queue, int consumer, std::uint32_t shared) {
  auto epilogue = make_epilogue<kIsTransposed, G>(args, consumer, shared);
  WeightGradientPipeline::State state(0);
  Accumulators acc;
  int i = 0;
  GradientTile next(queue.read(i));
  while (!next.is_end()) {
    const GradientTile tile = next;
    const int last = mainloop<Major::mn, Major::mn, true>(
        pipeline, state, consumer, tile.num_k_tiles(), true, acc, [&] { epilogue.prefetch(tile); });
    next = GradientTile(queue.read(++i));
    wgmma_wait<0>();
    pipeline.release(last);
    epilogue.store(tile, acc);
  }
  epilogue.finish();
}

template <bool kIsTransposed, class G>
__global__ void __launch_bounds__(kThreads, 1)
    expert_weight_gradient_sm90_kernel(const __grid_constant__ Args args) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const std::uint32_t shared = shared_address(memory);
  const WeightGradientPipeline pipeline(shared,
                                        shared + int{offsetof(SharedLayout, pipeline_barriers)});
  const GradientTileQueue queue(shared + int{offsetof(SharedLayout, tile_queue)});
  ExpertOrder& order = reinterpret_cast<SharedLayout*>(memory)->order;
  // Prologue.
  const int first_number = threadIdx.x == kProducer * kWarpgroup && cluster_rank() == 0
                               ? first_tile(args.schedule.tile_counter)
                               : 0;
  if (threadIdx.x == 0) {
    pipeline.init(kWarpgroup + 1);
    queue.init(kThreads / kWarp);
    if constexpr (!std::is_same_v<G, float>)
      for (int i = 0; i < kNumConsumers * kBf16GradientSlots; ++i)
        mbarrier_init(epilogue_barriers(shared, 0) + i * 8, 1);
    fence_barrier_init();
    prefetch_tensor_map(args.grouped);
    prefetch_tensor_map(args.dweight);
  }
  if (!args.overlaps_preceding) follow_preceding_kernel();
  order.build(args.schedule, !args.accumulates, reinterpret_cast<int*>(memory));
  cluster_sync();
  const int warpgroup = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
  if (warpgroup == kProducer) {
    setmaxnreg_dec<Registers::kProducer>();
    produce(args, pipeline, queue, order, first_number);
  } else {
    setmaxnreg_inc<Registers::kConsumer>();
    consume<kIsTransposed, G>(args, pipeline, queue, warpgroup, shared);
  }
  cluster_sync();  // the other block may still write to this block's shared memory
  // No kernel ends before the preceding one: the next may depend on both.
  if (args.overlaps_preceding) wait_for_preceding_kernel();
}

CUtensorMap dweight_map(const char* op, const ExpertGradientArgs& args, bool is_transposed) {
  const std::int64_t d_out = args.dy.rows.cols, d_in = args.x.rows.cols;
  const std::int64_t bytes = size_of(args.dtype);
  const TensorView view{.data = args.dweight,
                        .dtype = args.dtype,
                        .size = {d_in, d_out, args.routing.num_experts},
                        .stride = {d_in * bytes, d_in * d_out * bytes}};
  if (args.dtype == DType::bf16) return make_bf16_gradient_map(op, view, is_transposed);
  return make_tensor_map(op, view, {32, is_transposed ? 32 : 64, 1});
}

}  // namespace

void weight_gradient(const Launch& launch, const ExpertGradientArgs& args,
                     const ExpertGemmConfig&) {
  constexpr const char* kOp = "expert_gradient";
  const OperandSides sides = operand_sides(args);
  const ConstMatrix &gathered = sides.gathered.rows, &other = sides.other.rows;
  SMOE_INTERNAL_CHECK(sides.other.layout == RowLayout::grouped,
                      "expert_gradient: two scattered operands");
  const Args kernel_args{
      .grouped = make_ragged_map(kOp, other.data, other.rows, other.cols, stride_bytes(other)),
      .dweight = dweight_map(kOp, args, sides.gathers_x),
      .schedule = {.expert_offsets = args.routing.expert_offsets,
                   .num_experts = static_cast<int>(args.routing.num_experts),
                   .row_tiles = static_cast<int>(ceil_div(gathered.cols, kBlockM)),
                   .col_tiles = static_cast<int>(ceil_div(other.cols, kBlockN)),
                   .tile_counter = tile_counter(launch)},
      .a = {args.routing, sides.gathered},
      .accumulates = args.beta == 1,
      .overlaps_preceding = args.overlaps_preceding};
  dispatch_storage(kOp, args.dtype, [&](auto gradient) {
    using G = decltype(gradient);
    launch_clusters(launch, kOp,
                    sides.gathers_x ? expert_weight_gradient_sm90_kernel<true, G>
                                    : expert_weight_gradient_sm90_kernel<false, G>,
                    int{sizeof(SharedLayout)}, kernel_args);
  });
}

}  // namespace smoe::kernels::cuda::sm90
