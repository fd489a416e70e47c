// A task is one tile of one expert's rows (or of its weight gradient): rows are gathered into the
// thread's scratch unless BLAS can read them in place, multiplied in one call, and scattered from
// scratch unless BLAS can write the result in place.
#include "kernels/grouped_gemm.h"

#include <algorithm>
#include <cstddef>

#include "kernels/ceil_div.h"
#include "kernels/cpu/routed_rows.h"
#include "kernels/cpu/threads.h"

namespace smoe::kernels::cpu {
namespace {

// Large enough to amortize packing of the weights, small enough to balance the threads and to fit
// in L2.
constexpr std::int64_t kTileRows = 256;
constexpr std::int64_t kTileCols = 512;

template <class Acc>
struct RowGemm {
  const GroupedGemmArgs& args;
  std::int64_t in = args.x.rows.cols, out = args.y.cols;
  RowIndex x_index{args.routing, args.x.layout, args.x.rows.rows};
  RowIndex y_index{args.routing, args.y_layout, args.y.rows};
  std::int64_t tile_rows = std::min(kTileRows, args.routing.num_rows());
  std::int64_t tile_cols = std::min(kTileCols, out);
  bool writes_in_place = y_index.is_identity() && args.y.dtype == dtype_of<Acc>;

  struct ThreadScratch {
    Acc *x = nullptr, *weight = nullptr, *y = nullptr;
  };
  ThreadScratch take(Scratch& scratch) const {
    ThreadScratch taken;
    if (needs_scratch<Acc>(args.x, x_index)) taken.x = scratch.take<Acc>(tile_rows * in);
    if (args.weight.dtype != dtype_of<Acc>) taken.weight = scratch.take<Acc>(tile_cols * kPanelK);
    if (!writes_in_place) taken.y = scratch.take<Acc>(tile_rows * tile_cols);
    return taken;
  }

  void run(const ThreadWorkspace& workspace) const {
    for_each_row_tile(*this, args.routing, kTileRows, workspace);
  }

  void tile(const ExpertRows& rows, const ThreadScratch& scratch) const {
    const auto x = load_rows<Acc>(args.x, x_index, rows, 0, in, scratch.x);
    for (std::int64_t begin = 0; begin < out; begin += kTileCols) {
      const std::int64_t cols = std::min(kTileCols, out - begin);
      Acc* y = writes_in_place ? args.y.row<Acc>(rows.begin) + begin : scratch.y;
      const std::int64_t stride = writes_in_place ? args.y.stride : cols;
      if (args.bias.data) fill_bias(rows, begin, cols, y, stride);
      multiply_panel<Acc>(rows.size(), cols, x, args.weight[rows.expert], !args.transpose_weight,
                          begin, args.bias.data ? Acc{1} : Acc{0}, y, stride, scratch.weight);
      if (!writes_in_place) store(rows, begin, cols, y);
    }
  }

  void fill_bias(const ExpertRows& rows, std::int64_t begin, std::int64_t cols, Acc* y,
                 std::int64_t stride) const {
    dispatch_floating(args.bias.dtype, [&](auto type) {
      const auto* bias = args.bias.row<decltype(type)>(rows.expert) + begin;
      for (std::int64_t i = 0; i < rows.size(); ++i) convert(bias, y + i * stride, cols);
    });
  }

  void store(const ExpertRows& rows, std::int64_t begin, std::int64_t cols, const Acc* y) const {
    dispatch_floating(args.y.dtype, [&](auto type) {
      using T = decltype(type);
      for (std::int64_t p = rows.begin; p < rows.end; ++p)
        convert(y + (p - rows.begin) * cols, args.y.row<T>(y_index(p)) + begin, cols);
    });
  }
};

template <class Acc>
struct WeightGradient {
  const ExpertGradientArgs& args;
  std::int64_t out = args.dy.rows.cols, in = args.x.rows.cols;
  RowIndex dy_index{args.routing, args.dy.layout, args.dy.rows.rows};
  RowIndex x_index{args.routing, args.x.layout, args.x.rows.rows};
  bool gathers_dy = needs_scratch<Acc>(args.dy, dy_index);
  bool gathers_x = needs_scratch<Acc>(args.x, x_index);
  bool converts = args.dtype != dtype_of<Acc>;  // the gradient
  // Size of a tile of one expert's gradient: small enough that an expert with most of the rows
  // still occupies several threads.
  std::int64_t tile_out = 512, tile_in = 512;

  static constexpr std::int64_t kEnoughTasks = 32;
  static constexpr std::int64_t kBlockK = 512;  // rows per gather

  explicit WeightGradient(const ExpertGradientArgs& gradient) : args(gradient) {
    const auto num_tasks = [&] {
      return args.routing.num_experts * ceil_div(out, tile_out) * ceil_div(in, tile_in);
    };
    while (num_tasks() < kEnoughTasks && tile_out + tile_in > 256)
      (tile_out < tile_in ? tile_in : tile_out) /= 2;
    tile_out = std::min(tile_out, out);
    tile_in = std::min(tile_in, in);
  }

  struct ThreadScratch {
    Acc *dy = nullptr, *x = nullptr, *dweight = nullptr;
  };
  ThreadScratch take(Scratch& scratch) const {
    const std::int64_t block_k = std::min(kBlockK, args.routing.num_rows());
    ThreadScratch taken;
    if (gathers_dy) taken.dy = scratch.take<Acc>(block_k * tile_out);
    if (gathers_x) taken.x = scratch.take<Acc>(block_k * tile_in);
    if (converts && args.dweight) taken.dweight = scratch.take<Acc>(tile_out * tile_in);
    return taken;
  }

  void run(const ThreadWorkspace& workspace) const {
    if (args.dbias)
      sum_rows_by_expert<Acc>(args.routing, args.dy, args.dbias, args.dtype, args.bias_beta);
    if (!args.dweight || out == 0 || in == 0) return;
    const std::int64_t tile_cols = ceil_div(in, tile_in);
    const std::int64_t tiles = ceil_div(out, tile_out) * tile_cols;
    parallel_for(args.routing.num_experts * tiles, [&](std::int64_t i, int thread) {
      Scratch scratch = workspace.of(thread);
      tile(i / tiles, i % tiles / tile_cols * tile_out, i % tiles % tile_cols * tile_in,
           take(scratch));
    });
  }

  void tile(std::int64_t expert, std::int64_t row, std::int64_t col,
            const ThreadScratch& scratch) const {
    const Matrix dweight = matrix_of_expert(args.dweight, args.dtype, expert, out, in);
    const Block block{row, std::min(row + tile_out, out), col, std::min(col + tile_in, in)};
    if (!converts) return add(expert, block, dweight.row<Acc>(row) + col, in, scratch);
    if (args.beta != 0) load_panel(dweight, block, scratch.dweight);
    add(expert, block, scratch.dweight, block.cols(), scratch);
    store_block(scratch.dweight, dweight, block);
  }

  // A block of one expert's gradient is at `dweight`.
  void add(std::int64_t expert, const Block& block, Acc* dweight, std::int64_t stride,
           const ThreadScratch& scratch) const {
    const std::int64_t first = args.routing.expert_offsets[expert];
    const std::int64_t last = args.routing.expert_offsets[expert + 1];
    const std::int64_t block_k =
        gathers_dy || gathers_x ? kBlockK : std::max<std::int64_t>(last - first, 1);
    std::int64_t begin = first;
    do {
      const ExpertRows rows{expert, begin, std::min(last, begin + block_k)};
      const auto dy =
          load_rows<Acc>(args.dy, dy_index, rows, block.row_begin, block.row_end, scratch.dy);
      const auto x =
          load_rows<Acc>(args.x, x_index, rows, block.col_begin, block.col_end, scratch.x);
      blas_gemm(block.rows(), block.cols(), rows.size(), {dy.data, dy.stride, true},
                {x.data, x.stride}, begin == first ? static_cast<Acc>(args.beta) : Acc{1}, dweight,
                stride);
      begin = rows.end;
    } while (begin < last);
  }
};

// Calls f with the GEMM for the dtypes of args.
template <class F>
decltype(auto) dispatch_gemm(const GroupedGemmArgs& args, F&& f) {
  return dispatch_accumulation({args.x.rows.dtype, args.weight.dtype, args.y.dtype},
                               [&](auto type) { return f(RowGemm<decltype(type)>{args}); });
}

template <class F>
decltype(auto) dispatch_gemm(const ExpertGradientArgs& args, F&& f) {
  return dispatch_accumulation({args.dy.rows.dtype, args.x.rows.dtype},
                               [&](auto type) { return f(WeightGradient<decltype(type)>(args)); });
}

template <class Args>
std::int64_t workspace_bytes(const Args& args) {
  return dispatch_gemm(args, [](const auto& gemm) { return ThreadWorkspace::bytes(gemm); });
}

template <class Args>
void run(const Args& args) {
  dispatch_gemm(args, [&](const auto& gemm) { gemm.run(ThreadWorkspace(args.workspace, gemm)); });
}

}  // namespace

std::int64_t grouped_gemm_workspace_bytes(const Launch&, const GroupedGemmArgs& args) {
  return workspace_bytes(args);
}

void grouped_gemm(const Launch&, const GroupedGemmArgs& args) {
  SMOE_INTERNAL_CHECK(
      args.x.rows.cols == (args.transpose_weight ? args.weight.rows : args.weight.cols) &&
          args.y.cols == (args.transpose_weight ? args.weight.cols : args.weight.rows) &&
          args.y.rows == args.routing.num_rows(),
      "grouped_gemm: x has ", args.x.rows.cols, " columns, weight [", args.weight.rows, ", ",
      args.weight.cols, "], y [", args.y.rows, ", ", args.y.cols, "]");
  run(args);
}

std::int64_t expert_gradient_workspace_bytes(const Launch&, const ExpertGradientArgs& args) {
  return workspace_bytes(args);
}

void expert_gradient(const Launch&, const ExpertGradientArgs& args) {
  run(args);
}

void group(const Launch&, const GroupArgs& args) {
  const RowIndex index(args.routing, RowLayout::scattered, args.x.rows);
  constexpr std::int64_t kBlockRows = 64;
  dispatch_floating(args.x.dtype, [&](auto type) {
    using T = decltype(type);
    using Acc = accumulation_t<T>;
    const Acc* gates = static_cast<const Acc*>(args.gates);
    const auto rows = [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t p = begin; p < end; ++p) {
        const Acc gate = gates ? gates[scattered_id(args.routing, p)] : Acc{1};
        const T* x = args.x.row<T>(index(p));
        T* grouped = args.grouped.row<T>(p);
        for_lanes<T>(args.x.cols, [&](std::int64_t i, const auto& lanes) {
          lanes.store(grouped + i, gate * lanes.load(x + i));
        });
      }
    };
    parallel_blocks(args.routing.num_rows(), kBlockRows, rows);
  });
}

}  // namespace smoe::kernels::cpu
