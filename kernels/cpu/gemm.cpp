// Dense GEMM: a task is a tile of c and runs one or a few BLAS calls. Operands of another dtype are
// converted in panels of bounded k. A GEMM with few tiles and a large k (a weight gradient) is
// also split along k; the partial results of the slices are added in order.
#include "kernels/gemm.h"

#include <algorithm>

#include "kernels/ceil_div.h"
#include "kernels/cpu/blas.h"
#include "kernels/cpu/panel.h"
#include "kernels/cpu/threads.h"

namespace smoe::kernels::cpu {
namespace {

// Depends only on sizes, so that results do not depend on the number of threads.
struct Tiling {
  std::int64_t rows = 256, cols = 512;  // of a tile of c
  std::int64_t slice = 0;               // length of a K slice
  std::int64_t num_slices = 1;

  Tiling(std::int64_t m, std::int64_t n, std::int64_t k) : slice(k) {
    constexpr std::int64_t kEnoughTasks = 16;
    constexpr std::int64_t kShortestSlice = 256;
    while (num_tiles(m, n) < kEnoughTasks && (rows > 128 || cols > 128))
      (rows < cols ? cols : rows) /= 2;
    rows = std::min(rows, m);
    cols = std::min(cols, n);
    const std::int64_t tiles = num_tiles(m, n);
    if (tiles == 0 || tiles >= kEnoughTasks || k < 2 * kShortestSlice) return;
    slice = std::max(kShortestSlice, ceil_div(k, ceil_div(kEnoughTasks, tiles)));
    num_slices = ceil_div(k, slice);
  }

  std::int64_t num_tiles(std::int64_t m, std::int64_t n) const {
    return m == 0 || n == 0 ? 0 : ceil_div(m, rows) * ceil_div(n, cols);
  }
};

// One GEMM in the accumulation type Acc.
template <class Acc>
struct Gemm {
  const GemmArgs& args;
  std::int64_t m = args.c.rows, n = args.c.cols;
  std::int64_t k = args.transpose_a ? args.a.rows : args.a.cols;
  Tiling tiling{m, n, k};
  bool converts_c = args.c.dtype != dtype_of<Acc>;
  bool converts_operands = args.a.dtype != dtype_of<Acc> || args.b.dtype != dtype_of<Acc>;
  std::int64_t panel_k = converts_operands ? std::min(kPanelK, tiling.slice) : tiling.slice;

  struct ThreadScratch {
    Acc *a = nullptr, *b = nullptr, *c = nullptr;
  };

  ThreadScratch take(Scratch& scratch) const {
    ThreadScratch taken;
    if (args.a.dtype != dtype_of<Acc>) taken.a = scratch.take<Acc>(tiling.rows * panel_k);
    if (args.b.dtype != dtype_of<Acc>) taken.b = scratch.take<Acc>(panel_k * tiling.cols);
    if (converts_c) taken.c = scratch.take<Acc>(tiling.rows * tiling.cols);
    return taken;
  }

  Acc* take_partials(Scratch& scratch) const {  // [num_slices, m, n]
    return scratch.take<Acc>(tiling.num_slices > 1 ? tiling.num_slices * m * n : 0);
  }

  std::int64_t workspace_bytes() const {
    Scratch shared;
    take_partials(shared);
    return shared.bytes() + ThreadWorkspace::bytes(*this);
  }

  // c's block = op(a) op(b) over [k_begin, k_end) + beta c's block.
  void multiply(const Block& block, std::int64_t k_begin, std::int64_t k_end, Acc beta, Acc* c,
                std::int64_t c_stride, const ThreadScratch& scratch) const {
    std::int64_t begin = k_begin;
    do {
      const std::int64_t end = std::min(k_end, begin + std::max<std::int64_t>(panel_k, 1));
      const Block a_block = args.transpose_a ? Block{begin, end, block.row_begin, block.row_end}
                                             : Block{block.row_begin, block.row_end, begin, end};
      const Block b_block = args.transpose_b ? Block{block.col_begin, block.col_end, begin, end}
                                             : Block{begin, end, block.col_begin, block.col_end};
      const auto a = load_panel<Acc>(args.a, a_block, scratch.a);
      const auto b = load_panel<Acc>(args.b, b_block, scratch.b);
      blas_gemm(block.rows(), block.cols(), end - begin, {a.data, a.stride, args.transpose_a},
                {b.data, b.stride, args.transpose_b}, begin == k_begin ? beta : Acc{1}, c,
                c_stride);
      begin = end;
    } while (begin < k_end);
  }

  void tile(const Block& block, const ThreadScratch& scratch) const {
    const Acc beta = static_cast<Acc>(args.beta);
    if (!converts_c) {
      Acc* c = args.c.row<Acc>(block.row_begin) + block.col_begin;
      multiply(block, 0, k, beta, c, args.c.stride, scratch);
      return;
    }
    if (beta != 0) load_panel<Acc>(args.c, block, scratch.c);
    multiply(block, 0, k, beta, scratch.c, block.cols(), scratch);
    store_block(scratch.c, args.c, block);
  }

  void run() const {
    Scratch shared(args.workspace);
    Acc* partials = take_partials(shared);
    const ThreadWorkspace threads(shared.rest(), *this);
    const std::int64_t tile_cols = n == 0 ? 0 : ceil_div(n, tiling.cols);
    const std::int64_t num_tiles = tiling.num_tiles(m, n);
    parallel_for(num_tiles * tiling.num_slices, [&](std::int64_t task, int thread) {
      const std::int64_t slice = task / num_tiles, at = task % num_tiles;
      const std::int64_t row = at / tile_cols * tiling.rows, col = at % tile_cols * tiling.cols;
      const Block block{row, std::min(m, row + tiling.rows), col, std::min(n, col + tiling.cols)};
      Scratch own = threads.of(thread);
      const ThreadScratch scratch = take(own);
      if (tiling.num_slices == 1) {
        tile(block, scratch);
      } else {
        Acc* c = partials + (slice * m + row) * n + col;
        multiply(block, slice * tiling.slice, std::min(k, (slice + 1) * tiling.slice), 0, c, n,
                 scratch);
      }
    });
    if (tiling.num_slices > 1) add_slices(partials);
  }

  void add_slices(Acc* partials) const {
    parallel_blocks(m, 16, [&](std::int64_t begin, std::int64_t end, int) {
      dispatch_floating(args.c.dtype, [&](auto type) {
        using T = decltype(type);
        for (std::int64_t i = begin; i < end; ++i) {
          Acc* sum = partials + i * n;
          for (std::int64_t slice = 1; slice < tiling.num_slices; ++slice) {
            const Acc* partial = sum + slice * m * n;
            for (std::int64_t j = 0; j < n; ++j) sum[j] += partial[j];
          }
          T* c = args.c.row<T>(i);
          const Acc beta = static_cast<Acc>(args.beta);
          if (beta == 0)
            for (std::int64_t j = 0; j < n; ++j) c[j] = T(sum[j]);
          else
            for (std::int64_t j = 0; j < n; ++j) c[j] = T(sum[j] + beta * Acc(c[j]));
        }
      });
    });
  }
};

void check_sizes(const GemmArgs& args) {
  const std::int64_t m = args.transpose_a ? args.a.cols : args.a.rows;
  const std::int64_t k = args.transpose_a ? args.a.rows : args.a.cols;
  const std::int64_t n = args.transpose_b ? args.b.rows : args.b.cols;
  const std::int64_t b_k = args.transpose_b ? args.b.cols : args.b.rows;
  SMOE_INTERNAL_CHECK(m == args.c.rows && n == args.c.cols && k == b_k, "gemm: op(a) [", m, ", ", k,
                      "], op(b) [", b_k, ", ", n, "] and c [", args.c.rows, ", ", args.c.cols,
                      "] do not fit");
}

template <class F>
decltype(auto) dispatch_gemm(const GemmArgs& args, F&& f) {
  return dispatch_accumulation({args.a.dtype, args.b.dtype, args.c.dtype},
                               [&](auto type) { return f(Gemm<decltype(type)>{args}); });
}

}  // namespace

std::int64_t gemm_workspace_bytes(const Launch&, const GemmArgs& args) {
  return dispatch_gemm(args, [](const auto& gemm) { return gemm.workspace_bytes(); });
}

void gemm(const Launch&, const GemmArgs& args) {
  check_sizes(args);
  dispatch_gemm(args, [](const auto& gemm) { gemm.run(); });
}

}  // namespace smoe::kernels::cpu
