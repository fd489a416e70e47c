// Cases of kernels/rotary_gemm.h on the current stream.
#pragma once
#include "kernels/rotary_gemm.h"
#include "tests/kernels/rotary_cases.h"

namespace smoe::test {

struct RotaryGemmCase {
  kernels::AttentionShape shape;
  std::int64_t d_model;
  std::int64_t first_position = 0;
  std::int64_t padding = 0;  ///< columns after those of each row of x and y

  std::string name() const {
    return concat("rotary_gemm B ", shape.batch, " S ", shape.seq_len, " H ", shape.num_heads, " ",
                  shape.num_kv_heads, " C ", shape.head_dim, " D ", d_model, " from ",
                  first_position, " padding ", padding);
  }
};

/// The operands, from values rounded to `rounded`, and y with its padding.
struct RotaryGemmRun {
  Tensor x, weight, y, table, workspace;
  kernels::RotaryGemmArgs args;

  RotaryGemmRun(const RotaryGemmCase& c, DType dtype, DType rounded) {
    const std::int64_t rows = c.shape.num_tokens(), width = c.shape.packed_width();
    const auto operand = [&](const char* name, const Shape& shape, double scale) {
      return tensor_of(values_of(random_normal(name, shape, rounded, scale)), shape, dtype);
    };
    x = operand("x", {rows, c.d_model + c.padding}, 1);
    weight = operand("weight", {width, c.d_model}, 0.1);
    // Padding must keep its bits; y without it is filled with NaNs.
    y = c.padding > 0 ? operand("y", {rows, width + c.padding}, 1)
                      : Tensor::empty({rows, width}, dtype);
    const Matrix out = matrix_of(y).columns(0, width);
    args = {.x = matrix_of(x).columns(0, c.d_model),
            .weight = matrix_of(weight),
            .rotary = {.source = out,
                       .target = out,
                       .shape = c.shape,
                       .theta = kRotaryTheta,
                       .inverse = false,
                       .first_position = c.first_position}};
    table = new_workspace(kernels::rotary_workspace_bytes(launch(), args.rotary));
    args.rotary.workspace = table.data();
    workspace = new_workspace(kernels::rotary_gemm_workspace_bytes(launch(), args));
    args.workspace = workspace.data();
  }
};

}  // namespace smoe::test
