#include "optim/selection_bias.h"

#include "core/device.h"
#include "kernels/optimizer.h"

namespace smoe {

void update_selection_bias(const Tensor& bias, const Tensor& load, double rate) {
  SMOE_CHECK(bias.shape() == load.shape(), "update_selection_bias: bias and load must be [E]; got ",
             bias.shape(), " and ", load.shape());
  kernels::update_selection_bias(launch(), {.bias = bias.data_as<float>(),
                                            .load = load.data_as<std::int64_t>(),
                                            .num_experts = bias.numel(),
                                            .rate = rate});
}

}  // namespace smoe
