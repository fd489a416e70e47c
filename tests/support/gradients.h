// Gradients against central differences, in f64. The loss is the dot product of the outputs with
// fixed random numbers, so that every element of every output contributes.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "autograd/gradient_step.h"
#include "tests/support/tensors.h"

namespace smoe::test {

/// sum_i weights[i] x[i] as a one-element variable in f64, to derive a loss from any output.
inline Variable dot(const Variable& x, const Tensor& weights) {
  const std::vector<double> a = values_of(x.data()), b = values_of(weights);
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return record("dot", tensor_of({sum}, {1}, DType::f64), {&x}, {},
                [weights](Tensor, InputGradients& out) {
                  out.give(0, weights.clone(Category::activations));
                });
}

namespace detail {

inline void compare_derivative(const std::string& what, const std::function<double()>& loss,
                               const Tensor& point, const Tensor& gradient) {
  constexpr double kStep = 1e-5, kTolerance = 1e-6;
  constexpr std::int64_t kMaxElements = 48;
  double* x = point.data_as<double>();
  const double* dx = gradient.data_as<double>();
  double largest = 1;
  for (std::int64_t i = 0; i < point.numel(); ++i) largest = std::max(largest, std::abs(dx[i]));
  RandomStream stream(3, hash_name(what));
  for (std::int64_t n = 0; n < std::min(kMaxElements, point.numel()); ++n) {
    const auto i =
        point.numel() <= kMaxElements ? n : static_cast<std::int64_t>(stream.below(point.numel()));
    const double at = x[i];
    x[i] = at + kStep;
    const double above = loss();
    x[i] = at - kStep;
    const double below = loss();
    x[i] = at;
    const double derivative = (above - below) / (2 * kStep);
    CHECK_MESSAGE(std::abs(derivative - dx[i]) <= kTolerance * largest, what, ": element ", i,
                  ": backward gives ", dx[i], ", central difference ", derivative);
  }
}

}  // namespace detail

/// Compares the gradients of `f` at `inputs` (f64) and at the trained parameters of `store` (f64
/// masters, may be null) with central differences within 1e-6 of the largest gradient (or of 1).
/// `f` takes the inputs as variables and returns its outputs; it must be deterministic. Up to 48
/// elements of each tensor are checked.
inline void check_gradients(
    const std::string& what,
    const std::function<std::vector<Variable>(const std::vector<Variable>&)>& f,
    const std::vector<Tensor>& inputs, ParameterStore* store = nullptr) {
  std::vector<Tensor> weights;
  const auto weight_of = [&](std::size_t i, const Variable& output) -> const Tensor& {
    if (weights.size() <= i)
      weights.push_back(
          random_normal("weight of output " + std::to_string(i), output.shape(), DType::f64));
    return weights[i];
  };
  const std::function<double()> loss = [&] {
    const NoGradScope no_grad;
    const auto outputs = f({inputs.begin(), inputs.end()});
    double sum = 0;
    for (std::size_t i = 0; i < outputs.size(); ++i)
      sum += dot(outputs[i], weight_of(i, outputs[i])).data().item();
    return sum;
  };
  Tape tape;
  const TapeScope scope(tape);
  std::vector<Variable> variables;
  for (const Tensor& input : inputs) variables.push_back(tape.watch(input.clone(input.category())));
  std::optional<GradientStep> step;
  if (store) step.emplace(*store);
  const std::vector<Variable> outputs = f(variables);
  std::vector<Variable> terms;
  for (std::size_t i = 0; i < outputs.size(); ++i)
    terms.push_back(dot(outputs[i], weight_of(i, outputs[i])));
  Variable total = terms[0];
  for (std::size_t i = 1; i < terms.size(); ++i)
    total =
        record("sum", terms[i].data(), {&total, &terms[i]}, {}, [](Tensor dy, InputGradients& out) {
          out.give(0, dy);
          out.give(1, dy);
        });
  const WatchedGradients gradients = step ? step->backward(tape, total) : tape.backward(total);
  if (step) step->finish();
  for (std::size_t i = 0; i < inputs.size(); ++i)
    detail::compare_derivative(what + ": input " + std::to_string(i), loss, inputs[i],
                               gradients.of(variables[i]));
  if (!store) return;
  for (Parameter* parameter : store->trained())
    detail::compare_derivative(what + ": " + parameter->name(), loss, parameter->master(),
                               parameter->gradient());
}

}  // namespace smoe::test
