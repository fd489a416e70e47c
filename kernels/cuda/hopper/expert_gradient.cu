// dW = dy^T x of each expert's rows. One side is gathered row by row (or grouped already), 128 of
// its columns a tile; the other comes by TMA, 256 of its columns. Both lie in shared memory as in
// memory: a row for each of the sum. The sums leave through shared memory, by TMA, which adds them
// to what is there or stores them; a tile is one block's, so two runs give the same bits.
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/grouped/routed_index.cuh"
#include "kernels/cuda/hopper/blocks.cuh"
#include "kernels/cuda/hopper/launch.cuh"
#include "kernels/cuda/hopper/tile_queue.cuh"

namespace smoe::kernels::cuda::hopper {
namespace {

constexpr int kStages = 4;
constexpr int kSlots = 2;  // of a consumer's results on their way out
constexpr int kSlotBytes = 8192;
using Ring = Pipeline<kStages>;
constexpr int kProducer = kConsumers;  // the loading warpgroup's number, behind the consumers'

struct Args {
  CUtensorMap grouped;   // the side that comes by TMA
  CUtensorMap gradient;  // [E, D_out, D_in]
  const std::int32_t* expert_offsets;
  int num_experts;
  int row_tiles, col_tiles;  // of the gathered side's columns and of the other's
  const Bf16* gathered;
  std::uint32_t stride;  // in bytes; all of it lies within 4 GiB
  int gathered_cols;
  RowIndex index;
  bool adds;
  int* ticket;  // zero
};

// The experts' rows, and the experts by how many they have, most first: long sums that begin last
// would run alone.
struct Tables {
  int rows[kMaxExperts + 1];
  int order[kMaxExperts];

  /// For all threads.
  __device__ void build(const std::int32_t* expert_offsets, int num_experts) {
    for (int i = threadIdx.x; i <= num_experts; i += kThreads) rows[i] = expert_offsets[i];
    __syncthreads();
    for (int expert = threadIdx.x; expert < num_experts; expert += kThreads) {
      const int own = count(expert);
      int before = 0;
      for (int other = 0; other < num_experts; ++other)
        before += count(other) > own || (count(other) == own && other < expert);
      order[before] = expert;
    }
  }
  __device__ int count(int expert) const { return rows[expert + 1] - rows[expert]; }
};

struct Tile {
  int expert;
  int row_tile, col_tile;
  int begin, rows;  // of the sum

  __device__ int steps() const { return (rows + kTileDepth - 1) / kTileDepth; }
};

/// Tile `number` of this block; pairs of row tiles go down the columns of a band.
__device__ inline Tile tile_of(const Args& args, const Tables& tables, int number) {
  constexpr int kBand = 4;
  const int pairs = (args.row_tiles + 1) / 2, of_expert = pairs * args.col_tiles;
  const int place = number / of_expert, in_expert = number - place * of_expert;
  const int band = in_expert / (kBand * args.col_tiles);
  const int in_band = in_expert - band * kBand * args.col_tiles;
  const int height = min(kBand, pairs - band * kBand);
  Tile tile;
  tile.expert = tables.order[place];
  tile.col_tile = in_band / height;
  tile.row_tile = (band * kBand + in_band - tile.col_tile * height) * kClusterSize + cluster_rank();
  tile.begin = tables.rows[tile.expert];
  tile.rows = tables.count(tile.expert);
  return tile;
}

/// Thread t copies chunk t % 16 of rows t / 16 + 8 i of each step; zeros behind the expert's last.
/// The grouped side has the next expert's rows there: one that is not finite would reach this
/// expert's gradient too.
__device__ inline void produce(const Args& args, const Ring& ring, const TileQueue& queue,
                               const Tables& tables) {
  constexpr int kRows = 8;
  const int thread = threadIdx.x % kWarpgroup, lane = thread % kWarp, rank = cluster_rank();
  const int chunk = thread % 16, row = thread / 16;
  const std::uint32_t target = chunk / 8 * kBlockBytes + chunk_offset(row, chunk % 8);
  // A warp's lanes look up its 16 rows of a step: lane l row 8 (l / 2) + l % 2 behind the first.
  const int own_row = 2 * (thread / kWarp) + lane % 2 + 8 * (lane / 2 % 8);
  const int total = (args.row_tiles + 1) / 2 * args.col_tiles * args.num_experts;
  int drawn = static_cast<int>(blockIdx.x) / kClusterSize;
  Ring::Position position(1);
  TileQueue::Position writing(1), reading(0);
  for (;;) {
    if (thread == 0 && rank == 0) {
      queue.put(writing, drawn < total ? drawn : -1);
      drawn = atomicAdd(args.ticket, 1) + static_cast<int>(gridDim.x) / kClusterSize;
    }
    __syncwarp();
    const int number = queue.take(reading, kProducer);
    if (number < 0) return;
    const Tile tile = tile_of(args, tables, number);
    const int col = tile.row_tile * kTileM + chunk * 8;
    const bool is_in = col < args.gathered_cols;
    const Bf16* const source = args.gathered + (is_in ? col : 0);
    const auto look_up = [&](int at) { return at < tile.rows ? args.index(tile.begin + at) : 0; };
    int next = look_up(own_row);
    for (int k = 0; k < tile.rows; k += kTileDepth) {
      const std::uint32_t offset = static_cast<std::uint32_t>(next) * args.stride;
      next = look_up(k + kTileDepth + own_row);
      const int stage = position.stage();
      wait(ring.empty(stage), position.parity());
      if (thread == 0) {
        arrive_expecting(ring.full(stage), kRightBytes);
        for (int i = 0; i < 2; ++i) {
          const int block = 2 * rank + i;
          load_box_for_both(ring.right(stage) + block * kBlockBytes, args.grouped, ring.full(stage),
                            {tile.col_tile * kTileN + block * 64, tile.begin + k, 0});
        }
      }
      __syncwarp();
      const std::uint32_t to = ring.left(stage) + target;
#pragma unroll
      for (int i = 0; i < kRows; ++i)
        copy_async(to + i * 8 * kRowBytes,
                   advance(source, __shfl_sync(~0u, offset, 2 * i + lane / 16)),
                   is_in && k + row + 8 * i < tile.rows);
      arrive_after_copies(ring.full(stage));
      position.next();
    }
  }
}

/// Where a consumer's sums go: straight, gathered columns are the gradient's rows; else its
/// columns.
template <bool kIsTransposed>
class Gradient {
 public:
  static constexpr int kBytes = kSlots * kSlotBytes;
  static constexpr int kChunkCols = 32;  // of the other side in a slot

  __device__ Gradient(const Args& args, int consumer, std::uint32_t memory)
      : args_(args), consumer_(consumer), memory_(memory) {}

  __device__ void write(const Tile& tile, const WideSums& sums) {
    const bool is_first = threadIdx.x % kWarpgroup == 0;
#pragma unroll
    for (int chunk = 0; chunk < kTileN / kChunkCols; ++chunk) {
      const std::uint32_t slot = memory_ + slot_ * kSlotBytes;
      if (is_first) wait_stores_read<kSlots - 1>();
      sync_warpgroup(consumer_);
      kIsTransposed ? stage_transposed(sums, chunk, slot) : stage(sums, chunk, slot);
      fence_async();
      sync_warpgroup(consumer_);
      if (is_first) {
        const int row = tile.row_tile * kTileM + consumer_ * 64;
        const int col = tile.col_tile * kTileN + chunk * kChunkCols;
        if constexpr (kIsTransposed) {
          put(slot, {row, col, tile.expert});
          put(slot + kSlotBytes / 2, {row + 32, col, tile.expert});
        } else {
          put(slot, {col, row, tile.expert});
        }
        commit_stores();
      }
      slot_ = (slot_ + 1) % kSlots;
    }
  }
  __device__ void finish() const {
    if (threadIdx.x % kWarpgroup == 0) wait_stores();
  }

 private:
  __device__ void put(std::uint32_t from, const BoxAt& at) const {
    args_.adds ? add_box(args_.gradient, from, at) : store_box(args_.gradient, from, at);
  }

  // 64 rows of 32 numbers. Odd rows write the other half of a chunk's columns first: no bank is met
  // twice.
  static __device__ void stage(const WideSums& sums, int chunk, std::uint32_t slot) {
    const int thread = threadIdx.x % kWarpgroup, lane = thread % kWarp;
    const bool is_odd = lane & 4;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
        const float* const near = sums + (chunk * 4 + i) * 4 + lower * 2;
        const float* const far = near + 8;
        const int row = thread / kWarp * 16 + lower * 8 + lane / 4;
        const int at = (i ^ (is_odd ? 2 : 0)) * 2 + lane % 4 / 2;  // of 16 bytes
        store_pair(slot + chunk_offset(row, at) + lane % 2 * 8, is_odd ? far[0] : near[0],
                   is_odd ? far[1] : near[1]);
        store_pair(slot + chunk_offset(row, at ^ 4) + lane % 2 * 8, is_odd ? near[0] : far[0],
                   is_odd ? near[1] : far[1]);
      }
  }
  // Two blocks of 32 rows, a row for each column of the other side.
  static __device__ void stage_transposed(const WideSums& sums, int chunk, std::uint32_t slot) {
    const int thread = threadIdx.x % kWarpgroup, lane = thread % kWarp, warp = thread / kWarp;
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
        const float* const pair = sums + (chunk * 4 + i) * 4 + lower * 2;
        const int row = i * 8 + lane % 4 * 2, at = warp % 2 * 4 + lower * 2 + lane / 16;
        const std::uint32_t block = slot + warp / 2 * (kSlotBytes / 2) + lane / 4 % 4 * 4;
        store_one(block + chunk_offset(row, at), pair[0]);
        store_one(block + chunk_offset(row + 1, at), pair[1]);
      }
  }
  static __device__ void store_pair(std::uint32_t to, float a, float b) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(a), "f"(b) : "memory");
  }
  static __device__ void store_one(std::uint32_t to, float a) {
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(a) : "memory");
  }

  const Args& args_;
  int consumer_;
  std::uint32_t memory_;
  int slot_ = 0;
};

constexpr int kGradientAt = Ring::kBytes;
constexpr int kBarriersAt = kGradientAt + kConsumers * Gradient<false>::kBytes;
constexpr int kQueueAt = kBarriersAt + Ring::kBarrierBytes;
constexpr int kTablesAt = kQueueAt + TileQueue::kBytes;
constexpr int kSharedBytes = kTablesAt + int{sizeof(Tables)};
static_assert(kSharedBytes <= kSharedLimit);

template <bool kIsTransposed>
__device__ void consume(const Args& args, const Ring& ring, const TileQueue& queue,
                        const Tables& tables, int consumer, std::uint32_t shared) {
  using Target = Gradient<kIsTransposed>;
  Target gradient(args, consumer, shared + kGradientAt + consumer * Target::kBytes);
  Ring::Position position(0);
  TileQueue::Position reading(0);
  WideSums sums;
  int number = queue.take(reading, consumer);
  while (number >= 0) {
    const Tile tile = tile_of(args, tables, number);
    if (tile.rows == 0) {  // nothing to add, nothing to wait for
      number = queue.take(reading, consumer);
      continue;
    }
    const int last = multiply_tile<Major::size, Major::size>(ring, position, consumer, tile.steps(),
                                                             true, sums, [] {});
    number = queue.take(reading, consumer);
    wait_products<0>();
    ring.release(last);
    gradient.write(tile, sums);
  }
  gradient.finish();
}

template <bool kIsTransposed>
__global__ void __launch_bounds__(kThreads, 1)
    expert_gradient_kernel(const __grid_constant__ Args args) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const std::uint32_t shared = shared_address(memory);
  const Ring ring(shared, shared + kBarriersAt);
  const TileQueue queue(shared + kQueueAt);
  Tables& tables = *reinterpret_cast<Tables*>(memory + kTablesAt);
  if (threadIdx.x == 0) {
    ring.init(kWarpgroup + 1);
    queue.init();
    publish_barriers();
    prefetch_map(args.grouped);
    prefetch_map(args.gradient);
  }
  tables.build(args.expert_offsets, args.num_experts);
  __syncthreads();
  sync_cluster();
  const int warpgroup = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
  if (warpgroup == kProducer) {
    shrink_registers<56>();
    produce(args, ring, queue, tables);
  } else {
    grow_registers<224>();
    consume<kIsTransposed>(args, ring, queue, tables, warpgroup, shared);
  }
  sync_cluster();  // the other block may still write here
}

// The side that is gathered, and the other, which is grouped.
struct Sides {
  const RoutedRows &gathered, &grouped;
  bool is_transposed;
};
Sides sides_of(const ExpertGradientArgs& args) {
  const bool gathers_x = args.x.layout == RowLayout::scattered;
  if (gathers_x) return {args.x, args.dy, true};
  return {args.dy, args.x, false};
}

}  // namespace

bool takes(const Launch& launch, const ExpertGradientArgs& args) {
  const Sides sides = sides_of(args);
  const ConstMatrix& gathered = sides.gathered.rows;
  return takes(launch, args.routing, gathered.dtype, {gathered, sides.grouped.rows}) &&
         is_aligned(args.dweight) && sides.grouped.layout == RowLayout::grouped &&
         (args.beta == 0 || args.beta == 1) && (gathered.rows * bytes_of(gathered)) >> 32 == 0;
}

void expert_gradient(const Launch& launch, const ExpertGradientArgs& args) {
  constexpr const char* kOp = "expert_gradient";
  const Sides sides = sides_of(args);
  const ConstMatrix &gathered = sides.gathered.rows, &grouped = sides.grouped.rows;
  auto* const ticket = static_cast<int*>(args.workspace);
  CUDA_CHECK(cudaMemsetAsync(ticket, 0, sizeof(int), stream_of(launch)));
  const Args product{map_of(kOp, grouped, 64),
                     tensor_map(kOp,
                                {args.dweight,
                                 DType::f32,
                                 {args.x.rows.cols, args.dy.rows.cols, args.routing.num_experts},
                                 {args.x.rows.cols * 4, args.x.rows.cols * args.dy.rows.cols * 4}},
                                {32, sides.is_transposed ? 32 : 64, 1}),
                     args.routing.expert_offsets,
                     static_cast<int>(args.routing.num_experts),
                     static_cast<int>(ceil_div(gathered.cols, kTileM)),
                     static_cast<int>(ceil_div(grouped.cols, kTileN)),
                     static_cast<const Bf16*>(gathered.data),
                     row_bytes(gathered),
                     static_cast<int>(gathered.cols),
                     RowIndex(args.routing, sides.gathered.layout, gathered.rows),
                     args.beta == 1,
                     ticket};
  launch_clusters(
      launch, kOp,
      sides.is_transposed ? expert_gradient_kernel<true> : expert_gradient_kernel<false>,
      kSharedBytes, product);
}

}  // namespace smoe::kernels::cuda::hopper
