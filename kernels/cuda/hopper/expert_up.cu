// h = W1 x, a = gate * act(h).
#include "kernels/cuda/device/activation_functions.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/hopper/blocks.cuh"
#include "kernels/cuda/hopper/launch.cuh"
#include "kernels/cuda/hopper/row_product.cuh"

namespace smoe::kernels::cuda::hopper {
namespace {

struct ActivateArgs {
  CUtensorMap h_map, a_map;
  const std::int32_t* ids;
  const float* gates;
  Bf16* h;  // or null
  std::int64_t h_stride;
  Bf16* a;
  std::int64_t a_stride;
  int cols;  // F
};

// Two blocks at a time. Of gated units both of a, then gate and up of either block of h; else a and
// h of the same block.
template <class Function, bool kIsGated>
class Activate {
 public:
  using Args = ActivateArgs;
  static constexpr int kBytes = 2 * kBlockBytes;
  static constexpr int kUnits = kIsGated ? kTileN / 2 : kTileN;  // of a tile

  __device__ Activate(const Args& args, int consumer, std::uint32_t memory, std::uint32_t)
      : args_(args), consumer_(consumer), memory_(memory) {}

  __device__ void begin(const ConsumerTile& tile) {
    const int thread = threadIdx.x % kWarpgroup;
    const int row = thread / 32 * 16 + thread % 32 / 4;
    for (int i = 0; i < 2; ++i)
      gates_[i] = row + 8 * i < tile.rows ? gate(tile.row + row + 8 * i) : 0;
  }
  __device__ void prefetch(const ConsumerTile&) const {}

  __device__ void run(const ConsumerTile& tile, const WideSums& sums) const {
    const int col = tile.col_tile * kUnits;
    if constexpr (kIsGated) {
      write_both(tile, [&](int i, int pair, int word) { return activated(sums, i, pair, word); },
                 {Target::a, col}, {Target::a, col + 64});
      if (!args_.h) return;
#pragma unroll
      for (int block = 0; block < 2; ++block)
        write_both(
            tile,
            [&](int i, int pair, int word) { return rounded(sums, block + 2 * i, pair, word); },
            {Target::h, col + block * 64}, {Target::h_up, col + block * 64});
    } else {
#pragma unroll
      for (int block = 0; block < 4; ++block)
        write_both(
            tile,
            [&](int i, int pair, int word) {
              return i == 0 ? activated(sums, block, pair, word) : rounded(sums, block, pair, word);
            },
            {Target::a, col + block * 64}, {args_.h ? Target::h : Target::none, col + block * 64});
    }
  }
  __device__ void finish() const {
    if (threadIdx.x % kWarpgroup == 0) wait_stores();
  }

 private:
  enum class Target { none, a, h, h_up };
  struct Place {
    Target target;
    int col;
  };

  __device__ float gate(int row) const {
    return args_.gates[__ldg(args_.ids + row)];
  }

  static __device__ std::uint32_t rounded(const WideSums& sums, int block, int pair, int word) {
    const int sum = sum_of(block, pair, word);
    return pack_bf16(sums[sum], sums[sum + 1]);
  }
  // Of the h that was rounded.
  __device__ std::uint32_t activated(const WideSums& sums, int block, int pair, int word) const {
    const float2 h = unpack_bf16(rounded(sums, block, pair, word));
    const float2 up = kIsGated ? unpack_bf16(rounded(sums, block + 2, pair, word)) : float2{};
    const float gate = gates_[word % 2];
    return pack_bf16(activate<Bf16, Function, kIsGated>(h.x, up.x, gate),
                     activate<Bf16, Function, kIsGated>(h.y, up.y, gate));
  }

  // Blocks of words(0, ...) and words(1, ...).
  template <class F>
  __device__ void write_both(const ConsumerTile& tile, F&& words, Place first, Place second) const {
    const bool is_first = threadIdx.x % kWarpgroup == 0;
    if (is_first) wait_stores_read<0>();
    sync_warpgroup(consumer_);
    write_block(memory_, [&](int pair, int word) { return words(0, pair, word); });
    write_block(memory_ + kBlockBytes, [&](int pair, int word) { return words(1, pair, word); });
    if (tile.rows >= 64) {
      fence_async();
      sync_warpgroup(consumer_);
      if (!is_first) return;
      store(tile, memory_, first);
      store(tile, memory_ + kBlockBytes, second);
      commit_stores();
    } else {
      sync_warpgroup(consumer_);
      store_rows(tile, memory_, first);
      store_rows(tile, memory_ + kBlockBytes, second);
    }
  }
  __device__ void store(const ConsumerTile& tile, std::uint32_t block, Place place) const {
    if (place.target == Target::a)
      store_box(args_.a_map, block, {place.col, tile.row, 0});
    else if (place.target != Target::none)
      store_box(args_.h_map, block, {place.col, place.target == Target::h_up, tile.row});
  }
  __device__ void store_rows(const ConsumerTile& tile, std::uint32_t block, Place place) const {
    if (place.target == Target::none) return;
    Bf16* const to = place.target == Target::a
                         ? args_.a
                         : args_.h + (place.target == Target::h_up ? args_.cols : 0);
    const std::int64_t stride = place.target == Target::a ? args_.a_stride : args_.h_stride;
    for_rows_of_block(block, tile.rows, [&](int row, int chunk, const uint4& value) {
      const int col = place.col + chunk * 8;
      if (col < args_.cols) *reinterpret_cast<uint4*>(to + (tile.row + row) * stride + col) = value;
    });
  }

  const Args& args_;
  int consumer_;
  std::uint32_t memory_;
  float gates_[2] = {};  // of this thread's rows
};

template <class Function, bool kIsGated>
void run(const Launch& launch, const ExpertUpArgs& args) {
  constexpr const char* kOp = "expert_up";
  using P = RowProduct<true, kIsGated ? WeightForm::halves : WeightForm::rows, 4,
                       Activate<Function, kIsGated>>;
  constexpr int kHalves = kIsGated ? 2 : 1;
  const std::int64_t f = args.a.cols;
  const CUtensorMap a_map = map_of(kOp, args.a, 64);
  const typename P::Args product{
      {},
      map_of_weights(kOp, args.w1.data, args.w1.dtype, args.routing.num_experts * kHalves, f,
                     args.w1.cols, 128),
      args.routing.expert_offsets,
      static_cast<int>(args.routing.num_experts),
      static_cast<int>(ceil_div(f, P::kColStep)),
      static_cast<int>(args.x.cols),
      static_cast<const Bf16*>(args.x.data),
      row_bytes(args.x),
      RowIndex(args.routing, RowLayout::scattered, args.x.rows),
      {args.h.data ? map_of_halves(kOp, args.h, kHalves) : a_map, a_map,
       args.routing.sorted_scattered_ids, static_cast<const float*>(args.gates),
       static_cast<Bf16*>(args.h.data), args.h.stride, static_cast<Bf16*>(args.a.data),
       args.a.stride, static_cast<int>(f)}};
  launch_clusters(launch, kOp, row_product_kernel<P>, P::kSharedBytes, product);
}

}  // namespace

bool takes(const Launch& launch, const ExpertUpArgs& args) {
  return args.a.cols % kWidth == 0 &&
         takes(launch, args.routing, args.x.dtype, {args.x, args.w1[0], args.a, args.h});
}

void expert_up(const Launch& launch, const ExpertUpArgs& args) {
  dispatch_kind(args.kind, [&](auto function, auto is_gated) {
    run<decltype(function), is_gated>(launch, args);
  });
}

}  // namespace smoe::kernels::cuda::hopper
