// The table of sines and cosines that the kernels with rotary embedding read.
#pragma once
#include "kernels/rotary.h"

namespace smoe::kernels::cuda {

/// Fills args.workspace, unless it has the table, with f32 [S, C]: for each position C/2 cosines,
/// then C/2 sines. If 16 divides C, the same follows in the order of accumulators of wgmma: for
/// each 8 positions [C/16, 8, 4, 4], that is for each 8 columns and position, for each 2 columns,
/// their cosines and sines.
void fill_rotary_table(const Launch& launch, const RotaryArgs& args);

constexpr bool has_accumulator_angles(const AttentionShape& shape) {
  return shape.head_dim % 16 == 0;
}
/// The second part of the table, or null.
inline float* accumulator_angles(const RotaryArgs& args) {
  if (!has_accumulator_angles(args.shape)) return nullptr;
  return static_cast<float*>(args.workspace) + args.shape.seq_len * args.shape.head_dim;
}

}  // namespace smoe::kernels::cuda
