// Every expert activation function with its reference.
#pragma once
#include <utility>
#include <vector>

#include "kernels/activation.h"
#include "tests/reference/activation.h"

namespace smoe::test {

inline const std::vector<std::pair<kernels::Activation, reference::Act>>& activations() {
  using enum kernels::Activation;
  static const std::vector<std::pair<kernels::Activation, reference::Act>> all = {
      {swiglu, {reference::silu, reference::silu_slope, true}},
      {geglu, {reference::gelu, reference::gelu_slope, true}},
      {relu2, {reference::relu2, reference::relu2_slope, false}},
      {gelu, {reference::gelu, reference::gelu_slope, false}},
  };
  return all;
}

}  // namespace smoe::test
