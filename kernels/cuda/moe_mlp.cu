// The two fused products of an expert MLP, where those of kernels/cuda/hopper do not apply. A gated
// tile holds the gate and the up columns of the same units side by side, so that a thread has both
// halves of each pre-activation it activates.
#include "kernels/moe_mlp.h"

#include "kernels/cuda/device/activation_functions.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/grouped/product_launch.cuh"
#include "kernels/cuda/grouped/staging.cuh"
#include "kernels/cuda/hopper/products.h"

namespace smoe::kernels::cuda {
namespace {

// The gates of a warp's rows of a tile: two a lane, which arrive while the product runs.
class RowGates {
 public:
  template <class Args>
  __device__ void fetch(const Args& args, const Work& work, const WarpPosition& warp) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = work.m_begin + warp.m * kWarpTile + i * kWarp + threadIdx.x % kWarp;
      gates_[i] = row < work.m_end ? args.gate(row) : 0.0f;
    }
  }
  /// Of a row of the upper or lower 32; 0 where there is none. For all lanes together.
  __device__ float operator()(int half, int in_half) const {
    return __shfl_sync(~0u, gates_[half], in_half);
  }

 private:
  float gates_[2] = {0, 0};
};

// h = sums, rounded; a = gate * act(h).
template <class T>
struct ActivateArgs {
  Activation kind;
  const std::int32_t* ids;
  const float* gates;
  T* h;  // or null
  std::int64_t h_stride;
  T* a;
  std::int64_t a_stride;
  int cols;  // F

  __device__ float gate(int row) const { return gates[__ldg(ids + row)]; }
};

template <bool kIsGated>
class Activate {
 public:
  using Args = ActivateArgs<Bf16>;
  static constexpr int staging_bytes() { return 2 * Staging::kBytes; }

  __device__ Activate(const Args& args, const WarpPosition& warp, unsigned char* memory)
      : args_(args), warp_(warp), h_(memory), a_(memory + Staging::kBytes) {}

  __device__ void prefetch(const Work& work) { gates_.fetch(args_, work, warp_); }
  __device__ void run(const Work& work, const Sums& sums) const {
    dispatch_function<kIsGated>(args_.kind,
                                [&](auto function) { run_with<decltype(function)>(work, sums); });
  }

 private:
  static constexpr int kCols = kIsGated ? kWarpTile / 2 : kWarpTile;  // units of a warp
  static constexpr int kUp = kIsGated ? 4 : 0;  // first fragment of the up half

  template <class Function>
  __device__ void run_with(const Work& work, const Sums& sums) const {
    const int n = work.n_begin + warp_.n * kCols;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int m = work.m_begin + warp_.m * kWarpTile + i * 16;
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
        const float gate = gates_(i / 2, i % 2 * 16 + lower * 8 + threadIdx.x % kWarp / 4);
#pragma unroll
        for (int j = 0; j < kCols / 8; ++j) activate_pair<Function>(sums[i], lower, j, gate);
      }
      __syncwarp();
      if (args_.h)
        h_.for_chunks<8>([&](int row, int chunk, const uint4& value) {
          const int half = chunk * kChunk / kCols, col = n + chunk * kChunk % kCols;
          if (m + row < work.m_end && col < args_.cols)
            *reinterpret_cast<uint4*>(args_.h + (m + row) * args_.h_stride + half * args_.cols +
                                      col) = value;
        });
      a_.for_chunks<kCols / kChunk>([&](int row, int chunk, const uint4& value) {
        const int col = n + chunk * kChunk;
        if (m + row < work.m_end && col < args_.cols)
          *reinterpret_cast<uint4*>(args_.a + (m + row) * args_.a_stride + col) = value;
      });
      __syncwarp();
    }
  }

  template <class Function>
  __device__ void activate_pair(const float (&sums)[8][4], int lower, int j, float gate) const {
    const float(&first)[4] = sums[j], (&second)[4] = sums[j + kUp];
    const std::uint32_t h = pack_bf16(first[lower * 2], first[lower * 2 + 1]);
    const std::uint32_t h_up = pack_bf16(second[lower * 2], second[lower * 2 + 1]);
    h_.pair(lower, j) = h;
    if (kIsGated) h_.pair(lower, j + kUp) = h_up;
    const float2 x = unpack_bf16(h), up = unpack_bf16(h_up);
    a_.pair(lower, j) = pack_bf16(activate<Bf16, Function, kIsGated>(x.x, up.x, gate),
                                  activate<Bf16, Function, kIsGated>(x.y, up.y, gate));
  }

  const Args& args_;
  WarpPosition warp_;
  Staging h_, a_;
  RowGates gates_;
};

template <class T, bool kIsGated>
struct PlainActivate {
  using Args = ActivateArgs<T>;

  static __device__ void run(const Args& args, const Work&, int m, int n, const float (&sums)[8]) {
    const float gate = args.gate(m);
    dispatch_function<kIsGated>(args.kind, [&](auto function) {
      using Function = decltype(function);
#pragma unroll
      for (int j = 0; j < (kIsGated ? 4 : 8); ++j) {
        const int col = n + j % 4 + j / 4 * (kSimtTile / 2);
        if (col >= args.cols) continue;
        const T first = from_f32<T>(sums[j]);
        const T second = kIsGated ? from_f32<T>(sums[(j + 4) % 8]) : first;
        if (args.h) {
          args.h[m * args.h_stride + col] = first;
          if (kIsGated) args.h[m * args.h_stride + args.cols + col] = second;
        }
        args.a[m * args.a_stride + col] =
            from_f32<T>(activate<T, Function, kIsGated>(to_f32(first), to_f32(second), gate));
      }
    });
  }
};

// da = sums; dh over h, a again, and of each row the gate's gradient over kPartialCols columns, to
// be added up in order later.
constexpr int kPartialCols = 64;

template <class T>
struct DownBackwardArgs {
  Activation kind;
  const std::int32_t* ids;
  const float* gates;
  T* h;
  std::int64_t h_stride;
  T* a;
  std::int64_t a_stride;
  float* partials;  // [N, num_partials]
  int num_partials;
  int cols;  // F

  __device__ float gate(int row) const { return gates[__ldg(ids + row)]; }
  __device__ float& partial(int row, int col) const {
    return partials[std::int64_t{row} * num_partials + col / kPartialCols];
  }
};

// 16 rows of h at a time: three of four such parts arrive while the product runs, the last one
// while they are worked on.
template <bool kIsGated>
class DownBackward {
 public:
  using Args = DownBackwardArgs<Bf16>;
  static constexpr int kHalves = kIsGated ? 2 : 1;
  static constexpr int kSlots = 3;
  static constexpr int staging_bytes() { return kSlots * kHalves * Staging::kBytes; }

  __device__ DownBackward(const Args& args, const WarpPosition& warp, unsigned char* memory)
      : args_(args), warp_(warp), memory_(memory) {}

  __device__ void prefetch(const Work& work) {
    gates_.fetch(args_, work, warp_);
#pragma unroll
    for (int i = 0; i < kSlots; ++i) fetch(work, i);
  }
  __device__ void run(const Work& work, const Sums& sums) const {
    dispatch_function<kIsGated>(args_.kind,
                                [&](auto function) { run_with<decltype(function)>(work, sums); });
  }

 private:
  // Of part i, the gate half's or the up half's.
  __device__ Staging half(int i, int up) const {
    return Staging(memory_ + (i % kSlots * kHalves + up) * Staging::kBytes);
  }
  __device__ int row_of(const Work& work, int i) const {
    return work.m_begin + warp_.m * kWarpTile + i * 16;
  }
  __device__ int col_of(const Work& work) const {
    return work.n_begin + warp_.n * kWarpTile;
  }

  __device__ void fetch(const Work& work, int i) const {
    const int lane = threadIdx.x % 32, col = col_of(work) + lane % 8 * kChunk;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int in_part = k * 4 + lane / 8, row = row_of(work, i) + in_part;
      const bool exists = row < work.m_end && col < args_.cols;
      const Bf16* const from = args_.h + (exists ? row * args_.h_stride + col : 0);
#pragma unroll
      for (int up = 0; up < kHalves; ++up)
        copy_async(shared_address(&half(i, up).chunk(in_part, lane % 8)),
                   from + (exists ? up * args_.cols : 0), exists);
    }
  }

  __device__ void write(const Work& work, int i, const Staging& from, Bf16* to,
                        std::int64_t stride) const {
    from.for_chunks<8>([&](int in_part, int chunk, const uint4& value) {
      const int row = row_of(work, i) + in_part, col = col_of(work) + chunk * kChunk;
      if (row < work.m_end && col < args_.cols)
        *reinterpret_cast<uint4*>(to + row * stride + col) = value;
    });
  }

  template <class Function>
  __device__ void run_with(const Work& work, const Sums& sums) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Staging gate = half(i, 0), up = half(i, kHalves - 1);
      if (i % kSlots == 0) wait_all_copies();
      __syncwarp();
      std::uint32_t a[2][8];
#pragma unroll
      for (int lower = 0; lower < 2; ++lower)
        differentiate<Function>(work, i, lower, sums[i], gate, up, a[lower]);
      __syncwarp();
      write(work, i, gate, args_.h, args_.h_stride);
      if (kIsGated) write(work, i, up, args_.h + args_.cols, args_.h_stride);
      __syncwarp();
#pragma unroll
      for (int lower = 0; lower < 2; ++lower)
#pragma unroll
        for (int j = 0; j < 8; ++j) gate.pair(lower, j) = a[lower][j];
      __syncwarp();
      write(work, i, gate, args_.a, args_.a_stride);
      __syncwarp();
      if (i + kSlots < 4) fetch(work, i + kSlots);
    }
  }

  // A thread's numbers of the upper or lower eight rows: h in and dh out in place, and a.
  template <class Function>
  __device__ void differentiate(const Work& work, int i, int lower, const float (&sums)[8][4],
                                const Staging& gate_half, const Staging& up_half,
                                std::uint32_t (&a)[8]) const {
    const int lane = threadIdx.x % 32, row = row_of(work, i) + lane / 4 + lower * 8;
    const float scale = gates_(i / 2, i % 2 * 16 + lower * 8 + lane / 4);
    float dscale = 0;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float2 gate = unpack_bf16(gate_half.pair(lower, j));
      const float2 up = kIsGated ? unpack_bf16(up_half.pair(lower, j)) : float2{};
      const auto x =
          activate_backward<Bf16, Function, kIsGated>(gate.x, up.x, scale, sums[j][lower * 2]);
      const auto y =
          activate_backward<Bf16, Function, kIsGated>(gate.y, up.y, scale, sums[j][lower * 2 + 1]);
      gate_half.pair(lower, j) = pack_bf16(x.dgate, y.dgate);
      if (kIsGated) up_half.pair(lower, j) = pack_bf16(x.dup, y.dup);
      a[j] = pack_bf16(x.a, y.a);
      dscale += x.dscale + y.dscale;
    }
    dscale += __shfl_xor_sync(~0u, dscale, 1);
    dscale += __shfl_xor_sync(~0u, dscale, 2);
    if (row < work.m_end && lane % 4 == 0 && col_of(work) < args_.cols)
      args_.partial(row, col_of(work)) = dscale;
  }

  const Args& args_;
  WarpPosition warp_;
  unsigned char* memory_;
  RowGates gates_;
};

template <class T, bool kIsGated>
struct PlainDownBackward {
  using Args = DownBackwardArgs<T>;

  static __device__ void run(const Args& args, const Work&, int m, int n, const float (&sums)[8]) {
    const float scale = args.gate(m);
    float dscale[2] = {0, 0};  // of each kPartialCols columns
    dispatch_function<kIsGated>(args.kind, [&](auto function) {
      using Function = decltype(function);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const int col = n + j % 4 + j / 4 * (kSimtTile / 2);
        if (col >= args.cols) continue;
        T* const h = args.h + m * args.h_stride + col;
        const auto gradient = activate_backward<T, Function, kIsGated>(
            to_f32(h[0]), kIsGated ? to_f32(h[args.cols]) : 0.0f, scale, sums[j]);
        h[0] = from_f32<T>(gradient.dgate);
        if (kIsGated) h[args.cols] = from_f32<T>(gradient.dup);
        args.a[m * args.a_stride + col] = from_f32<T>(gradient.a);
        dscale[j / 4] += gradient.dscale;
      }
    });
    // Sixteen threads have a row of the tile.
    const unsigned row_mask = 0xffffu << (threadIdx.x & 16);
#pragma unroll
    for (int part = 0; part < 2; ++part) {
#pragma unroll
      for (int distance = 8; distance > 0; distance /= 2)
        dscale[part] += __shfl_xor_sync(row_mask, dscale[part], distance);
      const int col = n + part * kPartialCols;
      if (threadIdx.x % 16 == 0 && col < args.cols) args.partial(m, col) = dscale[part];
    }
  }
};

// dgates of a pair: its row's partial sums, added up by a warp in a fixed order.
__global__ void __launch_bounds__(256)
    add_partials_kernel(const float* partials, int num_partials, const std::int32_t* ids,
                        std::int64_t num_rows, float* dgates) {
  const std::int64_t row = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
  if (row >= num_rows) return;
  float sum = 0;
  for (int i = threadIdx.x % kWarp; i < num_partials; i += kWarp)
    sum += partials[row * num_partials + i];
  sum = reduce_warp(sum, Sum{});
  if (threadIdx.x % kWarp == 0) dgates[ids[row]] = sum;
}

template <class Shape, bool kIsGated>
using UpProduct = TensorProduct<Shape, RowWalk, RoutedRowsOperand<Shape::kTileM, Shape::kThreads>,
                                WeightRowsOperand<Shape::kTileN, Shape::kThreads, kIsGated>,
                                Activate<kIsGated>, kIsGated>;
template <class T, bool kIsGated>
using PlainUpProduct = SimtProduct<RowWalk, SimtRoutedRows<T>, SimtWeightRows<T, kIsGated>,
                                   PlainActivate<T, kIsGated>, kIsGated>;
template <class Shape, bool kIsGated>
using DownBackwardProduct =
    TensorProduct<Shape, RowWalk, RoutedRowsOperand<Shape::kTileM, Shape::kThreads>,
                  WeightColsOperand<Shape::kTileN, Shape::kThreads>, DownBackward<kIsGated>>;
template <class T, bool kIsGated>
using PlainDownBackwardProduct =
    SimtProduct<RowWalk, SimtRoutedRows<T>, SimtWeightCols<T>, PlainDownBackward<T, kIsGated>>;

RowWalk::Args walk_of(const RoutingView& routing, std::int64_t cols, std::int64_t tile_cols,
                      std::int64_t depth) {
  return {routing.expert_offsets, static_cast<int>(routing.num_experts),
          static_cast<int>(ceil_div(cols, tile_cols)), static_cast<int>(depth)};
}

template <class P, class T>
typename P::Args product_args(const ExpertUpArgs& args) {
  const auto f = static_cast<int>(args.a.cols);
  return {
      walk_of(args.routing, f, P::kTileN, args.x.cols),
      {static_cast<const T*>(args.x.data), row_bytes(args.x),
       RowIndex(args.routing, RowLayout::scattered, args.x.rows)},
      {static_cast<const T*>(args.w1.data), args.w1.rows * args.w1.cols, row_bytes(args.w1[0]), f},
      {args.kind, args.routing.sorted_scattered_ids, static_cast<const float*>(args.gates),
       static_cast<T*>(args.h.data), args.h.stride, static_cast<T*>(args.a.data), args.a.stride,
       f}};
}

template <class P, class T>
typename P::Args product_args(const ExpertDownBackwardArgs& args) {
  const auto f = static_cast<int>(args.a.cols);
  return {
      walk_of(args.routing, f, P::kTileN, args.dout.cols),
      {static_cast<const T*>(args.dout.data), row_bytes(args.dout),
       RowIndex(args.routing, RowLayout::scattered, args.dout.rows)},
      {static_cast<const T*>(args.w2.data), args.w2.rows * args.w2.cols, row_bytes(args.w2[0]), f},
      {args.kind, args.routing.sorted_scattered_ids, static_cast<const float*>(args.gates),
       static_cast<T*>(args.h.data), args.h.stride, static_cast<T*>(args.a.data), args.a.stride,
       static_cast<float*>(args.workspace), static_cast<int>(ceil_div(f, kPartialCols)), f}};
}

// The halves of h must start at 16 bytes too.
bool fits_halves(const Matrix& h, std::int64_t f) {
  return fits_width(h) && f % kWidth == 0;
}

void check_dtypes(const char* op, DType x, DType weight, DType a) {
  SMOE_CHECK(weight == x && a == x, op, ": on a GPU all arrays must have one dtype; got ",
             name_of(x), ", ", name_of(weight), " and ", name_of(a));
}

// Runs Tensor<Shape, gated> or Plain<T, gated>, whichever `config` says.
template <template <class, bool> class Tensor, template <class, bool> class Plain, bool kIsGated,
          bool kLongEpilogue, class Args>
void run_product(const Launch& launch, const char* op, const ProductConfig& config,
                 const Args& args) {
  if (config.form == ProductForm::plain) {
    dispatch_storage(op, args.a.dtype, [&](auto type) {
      using P = Plain<decltype(type), kIsGated>;
      launch_plain_product<P>(launch, op, config, product_args<P, decltype(type)>(args));
    });
  } else {
    dispatch_shape<kLongEpilogue>(config.form, [&](auto shape) {
      using P = Tensor<decltype(shape), kIsGated>;
      launch_tensor_product<P>(launch, op, config, product_args<P, Bf16>(args));
    });
  }
}

/// Partial sums of a row's gate gradient.
std::int64_t num_partials(const Launch& launch, const ExpertDownBackwardArgs& args) {
  return ceil_div(args.a.cols, hopper::takes(launch, args) ? hopper::kPartialCols : kPartialCols);
}

}  // namespace

std::int64_t expert_up_workspace_bytes(const Launch&, const ExpertUpArgs&) {
  return 0;
}

void expert_up(const Launch& launch, const ExpertUpArgs& args) {
  constexpr const char* kOp = "expert_up";
  check_dtypes(kOp, args.x.dtype, args.w1.dtype, args.a.dtype);
  if (hopper::takes(launch, args)) return hopper::expert_up(launch, args);
  const bool fits = fits_width(args.x) && fits_width(args.w1[0]) && fits_width(args.a) &&
                    (!args.h.data || fits_halves(args.h, args.a.cols));
  const ProductConfig config = choose_row_product(
      {args.x.dtype, args.routing.num_rows(), preactivation_width(args.kind, args.a.cols),
       args.routing.num_experts, fits},
      limits_of(launch));
  is_gated(args.kind)
      ? run_product<UpProduct, PlainUpProduct, true, false>(launch, kOp, config, args)
      : run_product<UpProduct, PlainUpProduct, false, false>(launch, kOp, config, args);
}

std::int64_t expert_down_backward_workspace_bytes(const Launch& launch,
                                                  const ExpertDownBackwardArgs& args) {
  return args.routing.num_rows() * num_partials(launch, args) * std::int64_t{sizeof(float)};
}

void expert_down_backward(const Launch& launch, const ExpertDownBackwardArgs& args) {
  constexpr const char* kOp = "expert_down_backward";
  check_dtypes(kOp, args.dout.dtype, args.w2.dtype, args.a.dtype);
  if (hopper::takes(launch, args)) {
    hopper::expert_down_backward(launch, args);
  } else {
    const bool fits = fits_width(args.dout) && fits_width(args.w2[0]) && fits_width(args.a) &&
                      fits_halves(args.h, args.a.cols);
    const ProductConfig config =
        choose_row_product({args.dout.dtype, args.routing.num_rows(), args.a.cols,
                            args.routing.num_experts, fits, true},
                           limits_of(launch));
    is_gated(args.kind) ? run_product<DownBackwardProduct, PlainDownBackwardProduct, true, true>(
                              launch, kOp, config, args)
                        : run_product<DownBackwardProduct, PlainDownBackwardProduct, false, true>(
                              launch, kOp, config, args);
  }
  const std::int64_t rows = args.routing.num_rows();
  if (rows == 0) return;
  add_partials_kernel<<<static_cast<unsigned>(ceil_div(rows * kWarp, 256)), 256, 0,
                        stream_of(launch)>>>(
      static_cast<const float*>(args.workspace), static_cast<int>(num_partials(launch, args)),
      args.routing.sorted_scattered_ids, rows, static_cast<float*>(args.dgates));
  check_launch(kOp);
}

}  // namespace smoe::kernels::cuda
