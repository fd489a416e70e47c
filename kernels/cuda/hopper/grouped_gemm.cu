// y = W x of routed rows.
#include "kernels/cuda/hopper/blocks.cuh"
#include "kernels/cuda/hopper/launch.cuh"
#include "kernels/cuda/hopper/row_product.cuh"

namespace smoe::kernels::cuda::hopper {
namespace {

// y = sums + bias, rounded, each row where y's layout has it.
struct StoreArgs {
  CUtensorMap map;
  Bf16* y;
  std::int64_t stride;
  int cols;
  const std::int32_t* ids;  // of scattered rows, or null
  const Bf16* bias;         // [E, cols], or null
};

class StoreRows {
 public:
  using Args = StoreArgs;
  static constexpr int kBlocks = kTileN / 64;
  static constexpr int kBytes = kBlocks * kBlockBytes + 1024;  // and a bias for each column

  __device__ StoreRows(const Args& args, int consumer, std::uint32_t memory, std::uint32_t)
      : args_(args), consumer_(consumer), memory_(memory) {}

  __device__ void begin(const ConsumerTile& tile) const {
    const int in_tile = threadIdx.x % kWarpgroup * 2, col = tile.col_tile * kTileN + in_tile;
    if (!args_.bias || col >= args_.cols) return;
    const std::int64_t at = std::int64_t{tile.expert} * args_.cols + col;
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(bias_at(in_tile)),
                 "r"(*reinterpret_cast<const std::uint32_t*>(args_.bias + at))
                 : "memory");
  }
  __device__ void prefetch(const ConsumerTile&) const {}
  __device__ void run(const ConsumerTile& tile, const WideSums& sums) const {
    const bool is_first = threadIdx.x % kWarpgroup == 0;
    const int first_col = tile.col_tile * kTileN;
    if (is_first) wait_stores_read<0>();
    sync_warpgroup(consumer_);
#pragma unroll
    for (int block = 0; block < kBlocks; ++block)
      write_block(memory_ + block * kBlockBytes, [&](int pair, int word) {
        const int sum = sum_of(block, pair, word);
        const float2 bias = bias_of(sum / 4 * 8);
        return pack_bf16(sums[sum] + bias.x, sums[sum + 1] + bias.y);
      });
    const bool by_box = !args_.ids && tile.rows >= 64;
    if (by_box) fence_async();
    sync_warpgroup(consumer_);
    if (by_box) {
      if (!is_first) return;
#pragma unroll
      for (int block = 0; block < kBlocks; ++block)
        store_box(args_.map, memory_ + block * kBlockBytes, {first_col + block * 64, tile.row, 0});
      commit_stores();
      return;
    }
#pragma unroll
    for (int block = 0; block < kBlocks; ++block)
      for_rows_of_block(memory_ + block * kBlockBytes, tile.rows,
                        [&](int row, int chunk, const uint4& value) {
                          const int col = first_col + block * 64 + chunk * 8;
                          if (col >= args_.cols) return;
                          const int at = tile.row + row;
                          const std::int64_t y_row = args_.ids ? __ldg(args_.ids + at) : at;
                          *reinterpret_cast<uint4*>(args_.y + y_row * args_.stride + col) = value;
                        });
  }
  __device__ void finish() const {
    if (threadIdx.x % kWarpgroup == 0) wait_stores();
  }

 private:
  __device__ std::uint32_t bias_at(int col) const {
    return memory_ + kBlocks * kBlockBytes + col * int{sizeof(Bf16)};
  }
  // Of this thread's two of the eight columns from col on of the tile.
  __device__ float2 bias_of(int col) const {
    if (!args_.bias) return {};
    std::uint32_t both;
    asm volatile("ld.shared.b32 %0, [%1];"
                 : "=r"(both)
                 : "r"(bias_at(col + threadIdx.x % 4 * 2))
                 : "memory");
    return unpack_bf16(both);
  }

  const Args& args_;
  int consumer_;
  std::uint32_t memory_;
};

template <bool kGathers, WeightForm kWeight>
void run(const Launch& launch, const GroupedGemmArgs& args) {
  constexpr const char* kOp = "grouped_gemm";
  using P = RowProduct<kGathers, kWeight, 3, StoreRows>;
  const ConstMatrix& x = args.x.rows;
  const ExpertMatrices& w = args.weight;
  const typename P::Args product{
      kGathers ? CUtensorMap{} : map_of(kOp, x, kTileM),
      map_of_weights(kOp, w.data, w.dtype, args.routing.num_experts, w.rows, w.cols,
                     kWeight == WeightForm::cols ? 64 : 128),
      args.routing.expert_offsets,
      static_cast<int>(args.routing.num_experts),
      static_cast<int>(ceil_div(args.y.cols, kTileN)),
      static_cast<int>(x.cols),
      static_cast<const Bf16*>(x.data),
      row_bytes(x),
      RowIndex(args.routing, args.x.layout, x.rows),
      {map_of(kOp, args.y, 64), static_cast<Bf16*>(args.y.data), args.y.stride,
       static_cast<int>(args.y.cols),
       args.y_layout == RowLayout::scattered ? args.routing.sorted_scattered_ids : nullptr,
       static_cast<const Bf16*>(args.bias.data)}};
  launch_clusters(launch, kOp, row_product_kernel<P>, P::kSharedBytes, product);
}

}  // namespace

bool takes(const Launch& launch, std::int64_t num_experts, const ConstMatrix& weight) {
  const RoutingView routing{1, 1, num_experts, nullptr, nullptr, nullptr};
  return weight.rows % kWidth == 0 && weight.cols % kWidth == 0 &&
         takes(launch, routing, weight.dtype, {weight});
}

bool takes(const Launch& launch, const GroupedGemmArgs& args) {
  return takes(launch, args.routing, args.x.rows.dtype, {args.x.rows, args.y, args.weight[0]}) &&
         is_aligned(args.bias.data);
}

void grouped_gemm(const Launch& launch, const GroupedGemmArgs& args) {
  const bool gathers = args.x.layout == RowLayout::scattered;
  if (args.transpose_weight)
    gathers ? run<true, WeightForm::cols>(launch, args)
            : run<false, WeightForm::cols>(launch, args);
  else
    gathers ? run<true, WeightForm::rows>(launch, args)
            : run<false, WeightForm::rows>(launch, args);
}

}  // namespace smoe::kernels::cuda::hopper
