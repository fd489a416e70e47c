// Front door of expert_up and expert_down_backward on CUDA: checks, the choice of a form, and
// dgates from the partials that every form leaves.
#include "kernels/moe_mlp.h"

#include "kernels/ceil_div.h"
#include "kernels/cuda/experts/forms.h"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {
namespace {

// The halves of h must start at 16 bytes too.
bool fits_halves(const Matrix& h, std::int64_t f) {
  return fits_width(h) && f % kWidth == 0;
}

ExpertGemmConfig config_of(const Launch& launch, const ExpertUpArgs& args) {
  const std::int64_t f = args.a.cols;
  return choose({.gemm = ExpertGemm::up,
                 .dtype = args.x.dtype,
                 .num_experts = args.routing.num_experts,
                 .m = args.routing.num_rows(),
                 .n = preactivation_width(args.kind, f),
                 .k = args.x.cols,
                 .is_aligned = fits_width(args.x) && fits_width(args.w1[0]) && fits_width(args.a) &&
                               (!args.h.data || fits_halves(args.h, f))},
                device_limits(launch), launch.policy);
}

ExpertGemmConfig config_of(const Launch& launch, const ExpertDownBackwardArgs& args) {
  const std::int64_t f = args.a.cols;
  return choose({.gemm = ExpertGemm::down_backward,
                 .dtype = args.dout.dtype,
                 .num_experts = args.routing.num_experts,
                 .m = args.routing.num_rows(),
                 .n = f,
                 .k = args.dout.cols,
                 .is_aligned = fits_width(args.dout) && fits_width(args.w2[0]) &&
                               fits_width(args.a) && fits_halves(args.h, f)},
                device_limits(launch), launch.policy);
}

// dgates of a routed row: its partials, reduced by one thread in a fixed order: first partials
// kSums apart, then the kSums sums by a binary tree.
template <int kSums>
__global__ void __launch_bounds__(128)
    expert_gate_gradient_kernel(const float* partials, int num_partials, const std::int32_t* ids,
                                std::int64_t num_rows, float* dgates) {
  const std::int64_t row = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (row >= num_rows) return;
  const std::int32_t id = ids[row];
  partials += row * num_partials;
  float sums[kSums] = {};
  for (int first = 0; first < num_partials; first += kSums)
#pragma unroll
    for (int i = 0; i < kSums; ++i)
      if (first + i < num_partials) sums[i] += partials[first + i];
#pragma unroll
  for (int half = kSums / 2; half > 0; half /= 2)
#pragma unroll
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  dgates[id] = sums[0];
}

void reduce_gate_gradient(const Launch& launch, const ExpertDownBackwardArgs& args,
                          int num_partials) {
  const std::int64_t rows = args.routing.num_rows();
  if (rows == 0) return;
  const auto kernel = num_partials <= 4    ? expert_gate_gradient_kernel<4>
                      : num_partials <= 16 ? expert_gate_gradient_kernel<16>
                                           : expert_gate_gradient_kernel<32>;
  kernel<<<static_cast<unsigned>(ceil_div(rows, 128)), 128, 0, stream_of(launch)>>>(
      static_cast<const float*>(args.workspace), num_partials, args.routing.sorted_scattered_ids,
      rows, static_cast<float*>(args.dgates));
  check_launch("expert_down_backward");
}

void check_dtypes(const char* op, DType x, DType weight, DType a) {
  SMOE_CHECK(weight == x && a == x, op, ": on a GPU all arrays must have one dtype; got ",
             name_of(x), ", ", name_of(weight), " and ", name_of(a));
}

}  // namespace

std::int64_t expert_up_workspace_bytes(const Launch& launch, const ExpertUpArgs& args) {
  return config_of(launch, args).workspace_bytes;
}

void expert_up(const Launch& launch, const ExpertUpArgs& args) {
  check_dtypes("expert_up", args.x.dtype, args.w1.dtype, args.a.dtype);
  run_form(launch, args, config_of(launch, args), simt::expert_up, sm80::expert_up,
           sm90::expert_up);
}

std::int64_t expert_down_backward_workspace_bytes(const Launch& launch,
                                                  const ExpertDownBackwardArgs& args) {
  return config_of(launch, args).workspace_bytes;
}

void expert_down_backward(const Launch& launch, const ExpertDownBackwardArgs& args) {
  check_dtypes("expert_down_backward", args.dout.dtype, args.w2.dtype, args.a.dtype);
  const ExpertGemmConfig config = config_of(launch, args);
  run_form(launch, args, config, simt::expert_down_backward, sm80::expert_down_backward,
           sm90::expert_down_backward);
  reduce_gate_gradient(launch, args, static_cast<int>(config.num_partials(args.a.cols)));
}

}  // namespace smoe::kernels::cuda
