// rotary_gemm for compute capability 9.0: y = x W^T, of which the query and key heads are rotated.
// The GEMM is that of one expert's grouped rows.
//
// Grid:      one persistent block per SM, clusters of 2, 384 threads; roles and registers as in
//            grouped_wgmma.cuh.
// Tile:      whole heads, two of 128 columns or four of 64, so that a thread has both elements of
//            its pairs.
// Shared:    3 stages (144 KiB); per consumer 64 x 256 bf16 results (32 KiB).
// Epilogue:  a thread loads the sines and cosines of its two rows under the mainloop, and rotates
//            its accumulators; results to shared memory by stmatrix; out by TMA.
#include "kernels/ceil_div.h"
#include "kernels/cuda/experts/forms.h"
#include "kernels/cuda/experts/sm90/epilogue.cuh"
#include "kernels/cuda/experts/sm90/grouped_wgmma.cuh"
#include "kernels/cuda/experts/sm90/launch.cuh"

namespace smoe::kernels::cuda::sm90 {
namespace {

// Of the columns of half a head that a thread has accumulators of, in the thread's two rows.
template <int kHeadDim>
class Angles {
 public:
  static constexpr int kFragments = kHeadDim / 2 / 8;

  // `table` is of accumulator_angles(), `first_row` the consumer's.
  __device__ void load(const float* table, int seq_len, int first_row) {
    const int thread = threadIdx.x % kWarpgroup;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const unsigned row = first_row + thread / 32 * 16 + thread % 32 / 4 + i * 8;
      const unsigned position = row % static_cast<unsigned>(seq_len);
      const std::uint32_t offset =
          (position / 8 * kFragments * 32 + position % 8 * 4 + thread % 4) * sizeof(float4);
      const auto* angles = static_cast<const float4*>(offset_pointer(table, offset));
#pragma unroll
      for (int j = 0; j < kFragments; ++j) angles_[i][j] = __ldg(angles + j * 32);
    }
  }
  // Rotates the head whose accumulators begin at acc[first].
  __device__ void rotate(Accumulators& acc, int first) const {
#pragma unroll
    for (int j = 0; j < kFragments; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int low = first + j * 4 + i * 2, high = low + kFragments * 4;
        rotate(acc[low], acc[high], angles_[i][j].x, angles_[i][j].z);
        rotate(acc[low + 1], acc[high + 1], angles_[i][j].y, angles_[i][j].w);
      }
  }

 private:
  static __device__ void rotate(float& low, float& high, float cosine, float sine) {
    const float x = low, y = high;
    low = x * cosine - y * sine;
    high = y * cosine + x * sine;
  }

  float4 angles_[2][kFragments];  // of two columns: their cosines, their sines
};

template <int kHeadDim>
class RotateHeads {
 public:
  struct Args {
    CUtensorMap map;  // of y
    const float* table;
    int seq_len, rotated_cols;
  };
  static constexpr int kBytes = kResultBytes;

  __device__ RotateHeads(const Args& args, int consumer, std::uint32_t memory, std::uint32_t)
      : args_(args), consumer_(consumer), memory_(memory) {}

  __device__ void begin(const ConsumerTile&) const {}
  __device__ void prefetch(const ConsumerTile& tile) {
    if (tile.col_tile * kBlockN < args_.rotated_cols)
      angles_.load(args_.table, args_.seq_len, tile.row);
  }
  __device__ void store(const ConsumerTile& tile, Accumulators& acc) const {
    const int first_col = tile.col_tile * kBlockN;
#pragma unroll
    for (int col = 0; col < kBlockN; col += kHeadDim)
      if (first_col + col < args_.rotated_cols) angles_.rotate(acc, col / 8 * 4);
    write_results(consumer_, memory_, [&](int i) { return pack_bf16(acc[i], acc[i + 1]); });
    fence_proxy_async();
    warpgroup_sync(consumer_);
    store_results(args_.map, memory_, first_col, tile.row);
  }
  __device__ void finish() const {
    if (threadIdx.x % kWarpgroup == 0) tma_store_wait();
  }

 private:
  const Args& args_;
  int consumer_;
  std::uint32_t memory_;
  Angles<kHeadDim> angles_;
};

template <class P>
__global__ void __launch_bounds__(kThreads, 1)
    rotary_gemm_sm90_kernel(const __grid_constant__ typename P::Args args) {
  run_grouped_gemm<P>(args);
}

template <int kHeadDim>
void run(const Launch& launch, const RotaryGemmArgs& args, const float* angles) {
  constexpr const char* kOp = "rotary_gemm";
  using P = GroupedGemm<false, WeightTile::rows, sm90_stages(ExpertGemm::grouped_gemm),
                        RotateHeads<kHeadDim>>;
  const AttentionShape& shape = args.rotary.shape;
  const std::int64_t rotated_cols = (shape.num_heads + shape.num_kv_heads) * kHeadDim;
  const typename P::Args kernel_args{
      .a = matrix_map(kOp, args.x, kBlockM),
      .weight = matrix_map(kOp, args.weight, 128),
      .schedule = {.tile_counter = tile_counter(launch),
                   .expert_offsets = nullptr,
                   .num_experts = 1,
                   .col_tiles = static_cast<int>(ceil_div(args.y().cols, P::kTileCols)),
                   .num_rows = static_cast<int>(args.x.rows)},
      .k = static_cast<int>(args.x.cols),
      .rows = nullptr,
      .row_bytes = 0,
      .index = RowIndex({}, RowLayout::grouped, args.x.rows),
      .epilogue = {.map = matrix_map(kOp, args.y(), 64),
                   .table = angles,
                   .seq_len = static_cast<int>(shape.seq_len),
                   .rotated_cols = static_cast<int>(rotated_cols)}};
  launch_clusters(launch, kOp, rotary_gemm_sm90_kernel<P>, P::kSharedBytes, kernel_args);
}

}  // namespace

void rotary_gemm(const Launch& launch, const RotaryGemmArgs& args, const float* angles) {
  args.rotary.shape.head_dim == 64 ? run<64>(launch, args, angles) : run<128>(launch, args, angles);
}

}  // namespace smoe::kernels::cuda::sm90
