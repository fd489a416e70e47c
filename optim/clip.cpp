#include "optim/clip.h"

#include <cmath>

#include "core/device.h"
#include "kernels/optimizer.h"

namespace smoe {

Tensor sum_of_squares(const Tensor& values) {
  const Tensor result = Tensor::empty({1}, DType::f64, Category::workspace);
  const Range all{0, values.numel()};
  sum_of_squares(values, {&all, 1}, result, 1);
  return result;
}

void sum_of_squares(const Tensor& values, std::span<const Range> ranges, const Tensor& results,
                    std::int64_t stride) {
  std::vector<kernels::ElementRange> elements;
  for (const Range& range : ranges) elements.push_back({range.begin, range.numel()});
  kernels::SumOfSquaresArgs args{.x = values.data(),
                                 .dtype = values.dtype(),
                                 .ranges = elements,
                                 .results = results.data_as<double>(),
                                 .stride = stride};
  const Tensor workspace = Tensor::empty({kernels::sum_of_squares_workspace_bytes(launch(), args)},
                                         DType::u8, Category::workspace);
  args.workspace = workspace.data();
  kernels::sum_of_squares(launch(), args);
}

Tensor sequential_sum(const Tensor& terms) {
  const Tensor result = Tensor::empty({1}, DType::f64, Category::workspace);
  kernels::sequential_sum(
      launch(),
      {.x = terms.data_as<double>(), .numel = terms.numel(), .result = result.data_as<double>()});
  return result;
}

GradientClip clip_to(const Tensor& squares, double max_norm) {
  const GradientClip clip{Tensor::empty({1}, DType::f64, Category::workspace),
                          Tensor::empty({1}, DType::f64, Category::workspace)};
  clip_to(squares, max_norm, Tensor::empty({0}, DType::f64, Category::workspace), clip);
  return clip;
}

void clip_to(const Tensor& squares, double max_norm, const Tensor& losses,
             const GradientClip& result) {
  SMOE_CHECK(max_norm >= 0 && std::isfinite(max_norm),
             "clip: max_norm must be finite and not negative; got ", max_norm);
  kernels::clip_coefficient(launch(), {.sum_of_squares = squares.data_as<double>(),
                                       .max_norm = max_norm,
                                       .losses = losses.data_as<double>(),
                                       .num_losses = losses.numel(),
                                       .norm = result.norm.data_as<double>(),
                                       .coefficient = result.coefficient.data_as<double>()});
}

}  // namespace smoe
