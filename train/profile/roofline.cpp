#include "train/profile/roofline.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/system/format.h"
#include "core/tensor.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "train/profile/timing.h"

namespace smoe {
namespace {

// Random-like bytes would be fairer to the power limit than equal ones; a ramp costs no time.
Tensor filled(const Shape& shape, DType dtype) {
  const Tensor x = Tensor::empty(shape, dtype, Category::workspace);
  const kernels::FillArgs ones{x.data(), dtype, x.numel(), 1.0};
  kernels::fill(launch(), ones);
  kernels::jitter(launch(), {x.data(), x.data(), dtype, x.numel(), 0.9, 1, 2, 3});
  return x;
}

ConstMatrix square(const Tensor& x) {
  return {x.data(), x.dtype(), x.dim(0), x.dim(0), x.dim(0)};
}

// The best of several medians: a roof is what the device can do.
template <class Work>
double best_ms(int runs, Work&& work) {
  work();
  double best = 1e30;
  for (int run = 0; run < runs; ++run) best = std::min(best, time_ms(work));
  return best;
}

}  // namespace

double Roofline::least_ms(const Cost& cost) const {
  return 1e3 * std::max(cost.flops / flops_per_s, cost.bytes / bytes_per_s);
}

Roofline measure_roofline(DType dtype) {
  const bool is_gpu = current_stream().device().type == DeviceType::cuda;
  const std::int64_t n = is_gpu ? 8192 : 1024;
  const std::int64_t copied = (is_gpu ? std::int64_t{1} << 30 : std::int64_t{1} << 26) / 4;
  const int repeats = is_gpu ? 10 : 1, runs = is_gpu ? 5 : 3;
  Roofline roofline;
  {
    const Tensor a = filled({n, n}, dtype), b = filled({n, n}, dtype);
    const Tensor c = Tensor::empty({n, n}, dtype, Category::workspace);
    kernels::GemmArgs gemm{
        .a = square(a), .b = square(b), .transpose_b = true, .c = {c.data(), dtype, n, n, n}};
    Tensor workspace;
    if (const std::int64_t bytes = kernels::gemm_workspace_bytes(launch(), gemm); bytes > 0) {
      workspace = Tensor::empty({bytes}, DType::u8, Category::workspace);
      gemm.workspace = workspace.data();
    }
    const double ms = best_ms(runs, [&] {
      for (int i = 0; i < repeats; ++i) kernels::gemm(launch(), gemm);
    });
    roofline.flops_per_s =
        2.0 * static_cast<double>(n * n) * static_cast<double>(n) * repeats / (ms / 1e3);
    roofline.gemm = fmt::format("{0} x {0} x {0} {1}", n, name_of(dtype));
  }
  const Tensor source = filled({copied}, DType::f32);
  const Tensor target = Tensor::empty({copied}, DType::f32, Category::workspace);
  const double ms = best_ms(runs, [&] {
    for (int i = 0; i < repeats; ++i)
      kernels::scale(launch(), {source.data(), DType::f32, target.data(), DType::f32, copied, 1.0});
  });
  roofline.bytes_per_s = 2.0 * static_cast<double>(source.bytes()) * repeats / (ms / 1e3);
  roofline.copy = format_bytes(source.bytes());
  return roofline;
}

}  // namespace smoe
