// Whether the operands of a norm allow vector accesses, but for its workspace.
#pragma once
#include "kernels/cuda/launch.cuh"
#include "kernels/norm.h"

namespace smoe::kernels::cuda {

inline bool fits_width(const RmsNormArgs& args) {
  return fits_width(args.x) && fits_width(args.delta) && fits_width(args.sum) &&
         fits_width(args.y) && is_aligned(args.weight);
}
inline bool fits_width(const RmsNormBackwardArgs& args) {
  const GradientParts& dy = args.dy;
  return fits_width(args.x) && fits_width(dy.dense) && fits_width(dy.rows) &&
         fits_width(dy.weight) && fits_width(args.dsum) && fits_width(args.dx) &&
         is_aligned(args.weight);
}

}  // namespace smoe::kernels::cuda
