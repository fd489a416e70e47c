#include "optim/clip.h"

#include <cmath>

#include "core/device.h"
#include "kernels/optimizer.h"

namespace smoe {

Tensor sum_of_squares(const Tensor& values) {
  const Tensor result = Tensor::empty({1}, DType::f64, Category::workspace);
  sum_of_squares(values, result);
  return result;
}

void sum_of_squares(const Tensor& values, const Tensor& result) {
  kernels::SumOfSquaresArgs args{.x = values.data(),
                                 .dtype = values.dtype(),
                                 .numel = values.numel(),
                                 .result = result.data_as<double>()};
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
  SMOE_CHECK(max_norm >= 0 && std::isfinite(max_norm),
             "clip: max_norm must be finite and not negative; got ", max_norm);
  const GradientClip clip{Tensor::empty({1}, DType::f64, Category::workspace),
                          Tensor::empty({1}, DType::f64, Category::workspace)};
  kernels::clip_coefficient(launch(), {.sum_of_squares = squares.data_as<double>(),
                                       .max_norm = max_norm,
                                       .norm = clip.norm.data_as<double>(),
                                       .coefficient = clip.coefficient.data_as<double>()});
  return clip;
}

}  // namespace smoe
