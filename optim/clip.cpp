#include "optim/clip.h"

#include <cmath>

#include "core/device.h"
#include "kernels/optimizer.h"

namespace smoe {

GradientClip clip_gradient(const ParameterStore& store, double max_norm) {
  SMOE_CHECK(max_norm >= 0 && std::isfinite(max_norm),
             "optim.clip_norm: must be finite and not negative; got ", max_norm);
  // Padding between parameters is zero, so that the arena is summed as one run.
  const Tensor& gradient = store.gradient();
  const Tensor squares = Tensor::empty({1}, DType::f64, Category::workspace);
  kernels::SumOfSquaresArgs args{.x = gradient.data(),
                                 .dtype = gradient.dtype(),
                                 .numel = gradient.numel(),
                                 .result = squares.data_as<double>()};
  const Tensor partial_sums = Tensor::empty(
      {kernels::sum_of_squares_workspace_bytes(launch(), args)}, DType::u8, Category::workspace);
  args.workspace = partial_sums.data();
  kernels::sum_of_squares(launch(), args);
  const GradientClip clip{Tensor::empty({1}, DType::f64, Category::workspace),
                          Tensor::empty({1}, DType::f64, Category::workspace)};
  kernels::clip_coefficient(launch(),
                            {squares.data_as<double>(), max_norm, clip.norm.data_as<double>(),
                             clip.coefficient.data_as<double>()});
  return clip;
}

}  // namespace smoe
