// Both fused GEMMs work on tiles: a tile of one expert's rows is gathered, multiplied with a block
// of the expert's weights, and passed through the activation function while it is in cache.
#include "kernels/moe_mlp.h"

#include "kernels/cpu/activation_rows.h"
#include "kernels/cpu/routed_rows.h"

namespace smoe::kernels::cpu {
namespace {

constexpr std::int64_t kTileRows = 256;
constexpr std::int64_t kTileCols = 512;  // of F

// T is the storage type, Act the activation function.
template <class T, class Act>
struct Up {
  using Acc = accumulation_t<T>;
  static constexpr std::int64_t kHalves = Act::kIsGated ? 2 : 1;
  static constexpr bool kConverts = !std::is_same_v<T, Acc>;

  const ExpertUpArgs& args;
  std::int64_t d = args.x.cols, f = args.a.cols;
  RoutedRows x{args.x, RowLayout::scattered};
  RowIndex x_index{args.routing, RowLayout::scattered, args.x.rows};
  std::int64_t tile_rows = std::min(kTileRows, args.routing.num_rows());
  std::int64_t tile_cols = std::min(kTileCols, f);

  struct ThreadScratch {
    Acc *x, *weight = nullptr, *result = nullptr;
    T* h = nullptr;
  };
  ThreadScratch take(Scratch& scratch) const {
    ThreadScratch taken{scratch.take<Acc>(tile_rows * d)};
    if (kConverts) {
      taken.weight = scratch.take<Acc>(tile_cols * kPanelK);
      taken.result = scratch.take<Acc>(tile_rows * tile_cols);
    }
    if (!args.h.data) taken.h = scratch.take<T>(kHalves * tile_rows * tile_cols);
    return taken;
  }

  void run(const ThreadWorkspace& workspace) const {
    for_each_row_tile(*this, args.routing, kTileRows, workspace);
  }

  void tile(const ExpertRows& rows, const ThreadScratch& scratch) const {
    const auto panel = load_rows<Acc>(x, x_index, rows, 0, d, scratch.x);
    for (std::int64_t begin = 0; begin < f; begin += kTileCols) {
      const std::int64_t cols = std::min(kTileCols, f - begin);
      // The halves of h: in args.h if it is kept, else adjacent in scratch.
      T* h = args.h.data ? args.h.row<T>(rows.begin) + begin : scratch.h;
      const std::int64_t stride = args.h.data ? args.h.stride : kHalves * cols;
      const std::int64_t up = args.h.data ? f : cols;
      multiply(rows, panel, begin, cols, h, stride, scratch);
      if (Act::kIsGated) multiply(rows, panel, f + begin, cols, h + up, stride, scratch);
      activate(rows, begin, cols, h, up, stride);
    }
  }

  // h = columns [col, col + cols) of x W1^T, rounded.
  void multiply(const ExpertRows& rows, const Panel<Acc>& panel, std::int64_t col,
                std::int64_t cols, T* h, std::int64_t stride, const ThreadScratch& scratch) const {
    const ConstMatrix w1 = args.w1[rows.expert];
    if constexpr (!kConverts) {
      multiply_panel<Acc>(rows.size(), cols, panel, w1, true, col, 0, h, stride, nullptr);
    } else {
      multiply_panel<Acc>(rows.size(), cols, panel, w1, true, col, 0, scratch.result, cols,
                          scratch.weight);
      for (std::int64_t i = 0; i < rows.size(); ++i)
        convert(scratch.result + i * cols, h + i * stride, cols);
    }
  }

  void activate(const ExpertRows& rows, std::int64_t begin, std::int64_t cols, const T* h,
                std::int64_t up, std::int64_t stride) const {
    const Acc* gates = static_cast<const Acc*>(args.gates);
    for (std::int64_t p = rows.begin; p < rows.end; ++p) {
      const T* row = h + (p - rows.begin) * stride;
      activate_row<Act, T>({row, row + up}, gates[scattered_id(args.routing, p)],
                           args.a.row<T>(p) + begin, cols);
    }
  }
};

template <class T, class Act>
struct DownBackward {
  using Acc = accumulation_t<T>;
  static constexpr bool kConverts = !std::is_same_v<T, Acc>;

  const ExpertDownBackwardArgs& args;
  std::int64_t d = args.dout.cols, f = args.a.cols;
  RoutedRows dout{args.dout, RowLayout::scattered};
  RowIndex dout_index{args.routing, RowLayout::scattered, args.dout.rows};
  std::int64_t tile_rows = std::min(kTileRows, args.routing.num_rows());
  std::int64_t tile_cols = std::min(kTileCols, f);

  struct ThreadScratch {
    Acc *dout, *da, *weight = nullptr;
  };
  ThreadScratch take(Scratch& scratch) const {
    ThreadScratch taken{scratch.take<Acc>(tile_rows * d), scratch.take<Acc>(tile_rows * tile_cols)};
    if (kConverts) taken.weight = scratch.take<Acc>(tile_cols * kPanelK);
    return taken;
  }

  void run(const ThreadWorkspace& workspace) const {
    for_each_row_tile(*this, args.routing, kTileRows, workspace);
  }

  void tile(const ExpertRows& rows, const ThreadScratch& scratch) const {
    const auto panel = load_rows<Acc>(dout, dout_index, rows, 0, d, scratch.dout);
    const Acc* gates = static_cast<const Acc*>(args.gates);
    Acc* dgates = static_cast<Acc*>(args.dgates);
    for (std::int64_t p = rows.begin; p < rows.end; ++p) dgates[scattered_id(args.routing, p)] = 0;
    for (std::int64_t begin = 0; begin < f; begin += kTileCols) {
      const std::int64_t cols = std::min(kTileCols, f - begin);
      multiply_panel<Acc>(rows.size(), cols, panel, args.w2[rows.expert], false, begin, 0,
                          scratch.da, cols, scratch.weight);
      for (std::int64_t p = rows.begin; p < rows.end; ++p) {
        const std::int64_t pair = scattered_id(args.routing, p);
        T* h = args.h.row<T>(p) + begin;
        dgates[pair] +=
            activate_row_backward_gated<Act, T>({h, h + f}, scratch.da + (p - rows.begin) * cols,
                                                gates[pair], args.a.row<T>(p) + begin, cols);
      }
    }
  }
};

// Calls f with the kernel for the dtype and activation function of args.
template <template <class, class> class Kernel, class Args, class F>
void dispatch_kernel(const Args& args, F&& f) {
  dispatch_activation(args.kind, [&](auto act) {
    dispatch_floating(args.a.dtype,
                      [&](auto type) { f(Kernel<decltype(type), decltype(act)>{args}); });
  });
}

template <template <class, class> class Kernel, class Args>
std::int64_t workspace_bytes(const Args& args) {
  std::int64_t bytes = 0;
  dispatch_kernel<Kernel>(args,
                          [&](const auto& kernel) { bytes = ThreadWorkspace::bytes(kernel); });
  return bytes;
}

template <template <class, class> class Kernel, class Args>
void run(const Args& args) {
  dispatch_kernel<Kernel>(
      args, [&](const auto& kernel) { kernel.run(ThreadWorkspace(args.workspace, kernel)); });
}

}  // namespace

std::int64_t expert_up_workspace_bytes(const Launch&, const ExpertUpArgs& args) {
  return workspace_bytes<Up>(args);
}

void expert_up(const Launch&, const ExpertUpArgs& args) {
  run<Up>(args);
}

std::int64_t expert_down_backward_workspace_bytes(const Launch&,
                                                  const ExpertDownBackwardArgs& args) {
  return workspace_bytes<DownBackward>(args);
}

void expert_down_backward(const Launch&, const ExpertDownBackwardArgs& args) {
  run<DownBackward>(args);
}

}  // namespace smoe::kernels::cpu
