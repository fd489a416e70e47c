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
      {swiglu, {reference::silu, reference::silu_derivative, true}},
      {geglu, {reference::gelu, reference::gelu_derivative, true}},
      {relu2, {reference::relu2, reference::relu2_derivative, false}},
      {gelu, {reference::gelu, reference::gelu_derivative, false}},
  };
  return all;
}

}  // namespace smoe::test
