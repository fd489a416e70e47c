// Standard deviations of initial projection weights, which preserve the variance of activations
// from layer to layer. Projections that write to the residual stream are scaled down by the number
// of such writes, so that the stream's final variance does not grow with depth (as in GPT-2).
#pragma once
#include <cmath>
#include <cstdint>

namespace smoe {

inline double projection_std(std::int64_t num_inputs) {
  return 1 / std::sqrt(static_cast<double>(num_inputs));
}

inline double residual_projection_std(std::int64_t num_inputs, std::int64_t num_layers) {
  return projection_std(num_inputs) / std::sqrt(2.0 * static_cast<double>(num_layers));
}

}  // namespace smoe
