#include "optim/selection_bias.h"

#include "core/device.h"
#include "kernels/optimizer.h"

namespace smoe {

void update_selection_bias(const Tensor& bias, const Tensor& load, double rate,
                           const Tensor& gradient_scale) {
  SMOE_CHECK(bias.shape() == load.shape(), "update_selection_bias: bias and load must be [E]; got ",
             bias.shape(), " and ", load.shape());
  kernels::update_selection_bias(
      launch(),
      {.bias = bias.data_as<float>(),
       .load = load.data_as<double>(),
       .num_experts = bias.numel(),
       .rate = rate,
       .gradient_scale = gradient_scale.defined() ? gradient_scale.data_as<double>() : nullptr});
}

}  // namespace smoe
