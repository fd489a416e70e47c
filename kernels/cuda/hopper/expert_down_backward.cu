// da = W2^T dout; dh over h, a again, and the gates' gradients.
#include "kernels/cuda/device/activation_functions.cuh"
#include "kernels/cuda/hopper/blocks.cuh"
#include "kernels/cuda/hopper/launch.cuh"
#include "kernels/cuda/hopper/row_product.cuh"

namespace smoe::kernels::cuda::hopper {
namespace {

struct DownBackwardArgs {
  CUtensorMap h_map, a_map;
  const std::int32_t* ids;
  const float* gates;
  Bf16* h;
  std::int64_t h_stride;
  Bf16* a;
  std::int64_t a_stride;
  float* partials;  // [N, col_tiles]
  int col_tiles;
  int cols;  // F
};

// Blocks of 64 columns, one after the other: h arrives in one of two slots, becomes dh there and is
// stored over h. Of an expert's last rows it reads what another block may write meanwhile, and uses
// none of it.
template <class Function, bool kIsGated>
class DownBackward {
 public:
  using Args = DownBackwardArgs;
  static constexpr int kHalves = kIsGated ? 2 : 1;
  static constexpr int kSlotBytes = kHalves * kBlockBytes;
  static constexpr int kBytes = 2 * kSlotBytes + kBlockBytes;
  static constexpr int kBlocks = kTileN / 64;

  __device__ DownBackward(const Args& args, int consumer, std::uint32_t memory,
                          std::uint32_t barriers)
      : args_(args), consumer_(consumer), memory_(memory), barriers_(barriers) {}

  __device__ void begin(const ConsumerTile& tile) {
    for (int i = 0; i < 2; ++i)
      gates_[i] = row() + 8 * i < tile.rows ? gate(tile.row + row() + 8 * i) : 0;
  }
  // Not before the first products: it waits for the last tile's stores.
  __device__ void prefetch(const ConsumerTile& tile) const {
    if (threadIdx.x % kWarpgroup > 0) return;
    wait_stores_read<0>();
    for (int block = 0; block < 2; ++block) fetch(tile, block);
  }

  __device__ void run(const ConsumerTile& tile, const WideSums& sums) const {
    const bool is_first = threadIdx.x % kWarpgroup == 0;
    float dgates[2] = {};
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const std::uint32_t h = slot(block), a = memory_ + 2 * kSlotBytes;
      if (is_first) wait_stores_read<0>();  // of a
      wait(barrier(block), block / 2 % 2);
      sync_warpgroup(consumer_);
      differentiate(sums, block, h, a, dgates);
      fence_async();
      sync_warpgroup(consumer_);
      const int col = tile.col_tile * kTileN + block * 64;
      if (tile.rows >= 64) {
        if (is_first) {
          for (int half = 0; half < kHalves; ++half)
            store_box(args_.h_map, h + half * kBlockBytes, {col, half, tile.row});
          store_box(args_.a_map, a, {col, tile.row, 0});
          commit_stores();
        }
      } else {
        for (int half = 0; half < kHalves; ++half)
          store_rows(tile, h + half * kBlockBytes, args_.h + half * args_.cols, args_.h_stride,
                     col);
        store_rows(tile, a, args_.a, args_.a_stride, col);
        fence_async();
        sync_warpgroup(consumer_);
      }
      if (block < 2 && is_first) {
        wait_stores_read<0>();
        fetch(tile, block + 2);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float sum = dgates[i];
      sum += __shfl_xor_sync(~0u, sum, 1);
      sum += __shfl_xor_sync(~0u, sum, 2);
      const int in_tile = row() + 8 * i;
      if (threadIdx.x % 4 == 0 && in_tile < tile.rows)
        args_.partials[std::int64_t{tile.row + in_tile} * args_.col_tiles + tile.col_tile] = sum;
    }
  }
  __device__ void finish() const {
    if (threadIdx.x % kWarpgroup == 0) wait_stores();
  }

 private:
  // The upper one of this thread's rows of a tile.
  static __device__ int row() {
    const int thread = threadIdx.x % kWarpgroup;
    return thread / 32 * 16 + thread % 32 / 4;
  }
  __device__ float gate(int row) const {
    return args_.gates[__ldg(args_.ids + row)];
  }
  __device__ std::uint32_t slot(int block) const {
    return memory_ + block % 2 * kSlotBytes;
  }
  __device__ std::uint32_t barrier(int block) const {
    return barriers_ + block % 2 * 8;
  }

  __device__ void fetch(const ConsumerTile& tile, int block) const {
    arrive_expecting(barrier(block), kSlotBytes);
    for (int half = 0; half < kHalves; ++half)
      load_box(slot(block) + half * kBlockBytes, args_.h_map, barrier(block),
               {tile.col_tile * kTileN + block * 64, half, tile.row});
  }

  __device__ void differentiate(const WideSums& sums, int block, std::uint32_t h, std::uint32_t a,
                                float (&dgates)[2]) const {
    std::uint32_t gate_half[4][4], up_half[4][4];  // all of them first: their arithmetic overlaps
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      load_matrices<false>(h + matrices_offset(pair), gate_half[pair]);
      if (kIsGated) load_matrices<false>(h + kBlockBytes + matrices_offset(pair), up_half[pair]);
    }
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      std::uint32_t activated[4];
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        const int sum = sum_of(block, pair, word);
        const float2 gate = unpack_bf16(gate_half[pair][word]);
        const float2 up = kIsGated ? unpack_bf16(up_half[pair][word]) : float2{};
        const float scale = gates_[word % 2];
        const auto x = activate_backward<Bf16, Function, kIsGated>(gate.x, up.x, scale, sums[sum]);
        const auto y =
            activate_backward<Bf16, Function, kIsGated>(gate.y, up.y, scale, sums[sum + 1]);
        gate_half[pair][word] = pack_bf16(x.dgate, y.dgate);
        if (kIsGated) up_half[pair][word] = pack_bf16(x.dup, y.dup);
        activated[word] = pack_bf16(x.a, y.a);
        dgates[word % 2] += x.dscale + y.dscale;
      }
      store_matrices<false>(a + matrices_offset(pair), activated);
      store_matrices<false>(h + matrices_offset(pair), gate_half[pair]);
      if (kIsGated) store_matrices<false>(h + kBlockBytes + matrices_offset(pair), up_half[pair]);
    }
  }

  __device__ void store_rows(const ConsumerTile& tile, std::uint32_t block, Bf16* to,
                             std::int64_t stride, int first_col) const {
    for_rows_of_block(block, tile.rows, [&](int row, int chunk, const uint4& value) {
      const int col = first_col + chunk * 8;
      if (col < args_.cols) *reinterpret_cast<uint4*>(to + (tile.row + row) * stride + col) = value;
    });
  }

  const Args& args_;
  int consumer_;
  std::uint32_t memory_, barriers_;
  float gates_[2] = {};  // of this thread's rows
};

template <class Function, bool kIsGated>
void run(const Launch& launch, const ExpertDownBackwardArgs& args) {
  constexpr const char* kOp = "expert_down_backward";
  using P = RowProduct<true, WeightForm::cols, 3, DownBackward<Function, kIsGated>>;
  const ExpertMatrices& w2 = args.w2;
  const auto col_tiles = static_cast<int>(ceil_div(args.a.cols, kTileN));
  const typename P::Args product{
      {},
      map_of_weights(kOp, w2.data, w2.dtype, args.routing.num_experts, w2.rows, w2.cols, 64),
      args.routing.expert_offsets,
      static_cast<int>(args.routing.num_experts),
      col_tiles,
      static_cast<int>(args.dout.cols),
      static_cast<const Bf16*>(args.dout.data),
      row_bytes(args.dout),
      RowIndex(args.routing, RowLayout::scattered, args.dout.rows),
      {map_of_halves(kOp, args.h, kIsGated ? 2 : 1), map_of(kOp, args.a, 64),
       args.routing.sorted_scattered_ids, static_cast<const float*>(args.gates),
       static_cast<Bf16*>(args.h.data), args.h.stride, static_cast<Bf16*>(args.a.data),
       args.a.stride, static_cast<float*>(args.workspace), col_tiles,
       static_cast<int>(args.a.cols)}};
  launch_clusters(launch, kOp, row_product_kernel<P>, P::kSharedBytes, product);
}

}  // namespace

bool takes(const Launch& launch, const ExpertDownBackwardArgs& args) {
  return takes(launch, args.routing, args.dout.dtype, {args.dout, args.w2[0], args.a, args.h});
}

void expert_down_backward(const Launch& launch, const ExpertDownBackwardArgs& args) {
  dispatch_kind(args.kind, [&](auto function, auto is_gated) {
    run<decltype(function), is_gated>(launch, args);
  });
}

}  // namespace smoe::kernels::cuda::hopper
