// The operands of a weight gradient by how the sm90 form loads them.
#pragma once
#include "kernels/grouped_gemm.h"

namespace smoe::kernels::cuda {

struct OperandSides {
  const RoutedRows& gathered;  ///< row by row; may be grouped
  const RoutedRows& other;     ///< by TMA: grouped
  bool gathers_x;              ///< x is `gathered`
};

inline OperandSides operand_sides(const ExpertGradientArgs& args) {
  const bool gathers_x = args.x.layout == RowLayout::scattered;
  if (gathers_x) return {args.x, args.dy, true};
  return {args.dy, args.x, false};
}

}  // namespace smoe::kernels::cuda
