// Routed rows split into tiles of one expert each, and such tiles as GEMM operands.
#pragma once
#include <algorithm>
#include <vector>

#include "kernels/ceil_div.h"
#include "kernels/checked_index.h"
#include "kernels/cpu/blas.h"
#include "kernels/cpu/panel.h"
#include "kernels/grouped_gemm.h"

namespace smoe::kernels::cpu {

/// Grouped rows [begin, end) of one expert.
struct ExpertRows {
  std::int64_t expert, begin, end;
  std::int64_t size() const { return end - begin; }
};

/// The rows of each expert in tiles of `tile_rows`; the last tile of an expert may be shorter. Tile
/// boundaries depend only on the routing.
class RowTiles {
 public:
  RowTiles(const kernels::RoutingView& routing, std::int64_t tile_rows)
      : routing_(routing), tile_rows_(tile_rows) {
    for (std::int64_t e = 0; e < routing.num_experts; ++e) count_ += tiles_of(e);
  }

  std::int64_t count() const { return count_; }

  ExpertRows operator[](std::int64_t i) const {
    std::int64_t expert = 0;
    for (; i >= tiles_of(expert); ++expert) i -= tiles_of(expert);
    const std::int64_t begin = routing_.expert_offsets[expert] + i * tile_rows_;
    return {expert, begin,
            std::min<std::int64_t>(begin + tile_rows_, routing_.expert_offsets[expert + 1])};
  }

 private:
  std::int64_t tiles_of(std::int64_t expert) const {
    return ceil_div(routing_.expert_offsets[expert + 1] - routing_.expert_offsets[expert],
                    tile_rows_);
  }

  kernels::RoutingView routing_;
  std::int64_t tile_rows_;
  std::int64_t count_ = 0;
};

/// Calls gemm.tile(rows, gemm.take(scratch)) for each tile, on all threads of the pool.
template <class Gemm>
void for_each_row_tile(const Gemm& gemm, const RoutingView& routing, std::int64_t tile_rows,
                       const ThreadWorkspace& workspace) {
  const RowTiles tiles(routing, tile_rows);
  parallel_for(tiles.count(), [&](std::int64_t i, int thread) {
    Scratch scratch = workspace.of(thread);
    gemm.tile(tiles[i], gemm.take(scratch));
  });
}

/// The scattered id of grouped row p.
inline std::int64_t scattered_id(const kernels::RoutingView& routing, std::int64_t p) {
  return checked_index(routing.sorted_scattered_ids[p], routing.num_rows());
}

/// The row in an array of routed rows that holds grouped row p.
class RowIndex {
 public:
  RowIndex(const kernels::RoutingView& routing, kernels::RowLayout layout, std::int64_t num_rows)
      : ids_(layout == kernels::RowLayout::grouped ? nullptr : routing.sorted_scattered_ids),
        pairs_per_row_(num_rows == routing.num_rows() ? 1
                                                      : static_cast<std::int32_t>(routing.top_k)),
        num_rows_(num_rows) {}

  bool is_identity() const { return !ids_; }
  std::int64_t operator()(std::int64_t p) const {
    return ids_ ? checked_index(ids_[p] / pairs_per_row_, num_rows_) : p;
  }

 private:
  const std::int32_t* ids_;
  std::int32_t pairs_per_row_;
  std::int64_t num_rows_;
};

/// Columns [col_begin, col_end) of routed rows as a panel: in place if the rows are grouped and
/// hold Acc, otherwise gathered into scratch.
template <class Acc>
Panel<Acc> load_rows(const kernels::RoutedRows& x, const RowIndex& index, const ExpertRows& rows,
                     std::int64_t col_begin, std::int64_t col_end, Acc* scratch) {
  if (index.is_identity())
    return load_panel<Acc>(x.rows, {rows.begin, rows.end, col_begin, col_end}, scratch);
  const std::int64_t cols = col_end - col_begin;
  dispatch_floating(x.rows.dtype, [&](auto type) {
    using T = decltype(type);
    for (std::int64_t p = rows.begin; p < rows.end; ++p)
      convert(x.rows.row<T>(index(p)) + col_begin, scratch + (p - rows.begin) * cols, cols);
  });
  return {scratch, cols};
}

/// Whether load_rows needs scratch.
template <class Acc>
bool needs_scratch(const kernels::RoutedRows& x, const RowIndex& index) {
  return !index.is_identity() || x.rows.dtype != dtype_of<Acc>;
}

/// One expert's matrix of [E, rows, cols].
inline Matrix matrix_of_expert(void* experts, DType dtype, std::int64_t expert, std::int64_t rows,
                               std::int64_t cols) {
  auto* const bytes = static_cast<std::byte*>(experts);
  return {bytes + expert * rows * cols * size_of(dtype), dtype, rows, cols, cols};
}

/// sums[e] = the sum of e's rows + beta sums[e], which is not read if beta is 0: [E, cols] of
/// `dtype`, rounded once if that is not Acc's.
template <class Acc>
void sum_rows_by_expert(const kernels::RoutingView& routing, const kernels::RoutedRows& rows,
                        void* sums, DType dtype, double beta) {
  const RowIndex index(routing, rows.layout, rows.rows.rows);
  const std::int64_t cols = rows.rows.cols;
  parallel_for(routing.num_experts, [&](std::int64_t expert, int) {
    const Matrix own = matrix_of_expert(sums, dtype, expert, 1, cols);
    const Block all{0, 1, 0, cols};
    std::vector<Acc> copy(dtype == dtype_of<Acc> ? 0 : cols);
    Acc* const sum = copy.empty() ? own.row<Acc>(0) : copy.data();
    if (!copy.empty() && beta != 0) load_panel(own, all, sum);
    for (std::int64_t i = 0; i < cols; ++i)
      sum[i] = beta == 0 ? Acc{0} : static_cast<Acc>(beta) * sum[i];
    dispatch_floating(rows.rows.dtype, [&](auto type) {
      using T = decltype(type);
      for (std::int64_t p = routing.expert_offsets[expert]; p < routing.expert_offsets[expert + 1];
           ++p) {
        const T* row = rows.rows.row<T>(index(p));
        for (std::int64_t i = 0; i < cols; ++i) sum[i] += Acc(row[i]);
      }
    });
    if (!copy.empty()) store_block(sum, own, all);
  });
}

/// c [m, n] = a op(b) + beta c for columns [col_begin, col_begin + n) of op(b); `a` holds whole
/// rows. Uses n * kPanelK elements of scratch if b must be converted.
template <class Acc>
void multiply_panel(std::int64_t m, std::int64_t n, const Panel<Acc>& a, const ConstMatrix& b,
                    bool transpose_b, std::int64_t col_begin, Acc beta, Acc* c,
                    std::int64_t c_stride, Acc* scratch) {
  const std::int64_t k = transpose_b ? b.cols : b.rows;
  const std::int64_t block_k = b.dtype == dtype_of<Acc> ? std::max<std::int64_t>(k, 1) : kPanelK;
  std::int64_t begin = 0;
  do {
    const std::int64_t end = std::min(k, begin + block_k);
    const Block block = transpose_b ? Block{col_begin, col_begin + n, begin, end}
                                    : Block{begin, end, col_begin, col_begin + n};
    const auto panel = load_panel<Acc>(b, block, scratch);
    blas_gemm(m, n, end - begin, {a.data + begin, a.stride},
              {panel.data, panel.stride, transpose_b}, begin == 0 ? beta : Acc{1}, c, c_stride);
    begin = end;
  } while (begin < k);
}

}  // namespace smoe::kernels::cpu
