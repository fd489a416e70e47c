// Rotary position embedding (arXiv:2104.09864), half-split form.
#pragma once
#include "core/base/launch.h"
#include "core/base/matrix.h"
#include "kernels/attention_shape.h"

namespace smoe::kernels {

/// Turns each pair (x[i], x[i + C/2]) of every query and key head by the angle
/// position * theta^(-2 i / C), the positions of each sequence counted from first_position; value
/// heads are copied.
struct RotaryArgs {
  ConstMatrix source;  ///< qkv [T, (H + 2 Hkv) C]
  Matrix target;       ///< same; may be `source`
  AttentionShape shape;
  double theta;
  bool inverse;                     ///< turn back: the gradient of the forward direction
  void* workspace;                  ///< rotary_workspace_bytes()
  std::int64_t first_position = 0;  ///< of each sequence's first row
};
void rotary(const Launch& launch, const RotaryArgs& args);

std::int64_t rotary_workspace_bytes(const Launch& launch, const RotaryArgs& args);

}  // namespace smoe::kernels
