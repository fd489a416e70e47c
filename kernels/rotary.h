// Rotary position embedding (arXiv:2104.09864), half-split form.
#pragma once
#include "core/base/launch.h"
#include "core/base/matrix.h"
#include "kernels/attention_shape.h"

namespace smoe::kernels {

/// Rotates each pair (x[i], x[i + C/2]) of every query and key head by the angle
/// position * theta^(-2 i / C), where the positions of each sequence start at first_position; value
/// heads are copied.
struct RotaryArgs {
  ConstMatrix source;  ///< qkv [T, (H + 2 Hkv) C]
  Matrix target;       ///< same; may be `source`
  AttentionShape shape;
  double theta;
  bool inverse;  ///< rotate by the negative angle: the backward of the forward rotation
  void* workspace = nullptr;        ///< rotary_workspace_bytes(): a table of sines and cosines
  std::int64_t first_position = 0;  ///< position of the first row of each sequence
  /// The workspace is that of an earlier call with equal S, C, theta, first_position and dtype.
  bool has_table = false;
};
void rotary(const Launch& launch, const RotaryArgs& args);

std::int64_t rotary_workspace_bytes(const Launch& launch, const RotaryArgs& args);

}  // namespace smoe::kernels
