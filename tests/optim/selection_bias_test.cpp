#include "optim/selection_bias.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

using namespace smoe;

TEST_CASE("the selection bias moves against the load") {
  const Tensor load = Tensor::from<double>({3, 1, 5}, {3});
  const Tensor bias = Tensor::zeros({3}, DType::f32);
  update_selection_bias(bias, load, 0.5);
  CHECK(bias.to_vector<float>() == std::vector<float>{0, 0.5, -0.5});
  update_selection_bias(bias, load, 0.5, Tensor::from<double>({NAN}, {1}));
  CHECK(bias.to_vector<float>() == std::vector<float>{0, 0.5, -0.5});
  CHECK_THROWS_WITH_AS(update_selection_bias(Tensor::zeros({2}, DType::f32), load, 0.5),
                       "update_selection_bias: bias and load must be [E]; got [2] and [3]",
                       UsageError);
}
