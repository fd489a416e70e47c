// Sums over thread blocks in a fixed order: each block writes a row of partial sums, which are then
// added up.
#pragma once
#include <algorithm>
#include <cstdint>

#include "core/base/dtype.h"
#include "core/base/launch.h"
#include "kernels/ceil_div.h"

namespace smoe::kernels::cuda {

/// Consecutive rows for each thread block. Depends only on the arguments, so that sums are the same
/// on every GPU.
struct RowBlocks {
  std::int64_t rows;  ///< per block
  std::int64_t count;

  RowBlocks(std::int64_t num_rows, std::int64_t max_blocks)
      : rows(std::max(std::int64_t{16}, ceil_div(num_rows, max_blocks))),
        count(ceil_div(num_rows, rows)) {}
};

/// sums[n] = beta sums + the sum of the rows of partials [num_rows, n]. beta == 0 never reads sums,
/// which are f32 or bf16.
void add_partial_rows(const Launch& launch, const float* partials, std::int64_t num_rows,
                      std::int64_t n, double beta, void* sums, DType dtype);

}  // namespace smoe::kernels::cuda
