// Front door of grouped_gemm and expert_gradient on CUDA: checks, the choice of a form, and what no
// form covers (empty experts, bias gradients, copies in grouped order).
#include "kernels/grouped_gemm.h"

#include "kernels/cuda/device/row_index.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/experts/forms.h"
#include "kernels/cuda/experts/operand_sides.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/row_pass.h"
#include "kernels/engines.h"

namespace smoe::kernels::cuda {

DeviceLimits device_limits(const Launch& launch) {
  if (launch.device.is_dry()) return kHopper;
  return {.compute_major = attribute(launch, cudaDevAttrComputeCapabilityMajor),
          .compute_minor = attribute(launch, cudaDevAttrComputeCapabilityMinor),
          .num_sms = attribute(launch, cudaDevAttrMultiProcessorCount),
          .shared_bytes = attribute(launch, cudaDevAttrMaxSharedMemoryPerBlockOptin)};
}

namespace {

ExpertGemmConfig config_of(const Launch& launch, const GroupedGemmArgs& args) {
  const ConstMatrix& x = args.x.rows;
  return choose({.gemm = ExpertGemm::grouped_gemm,
                 .dtype = x.dtype,
                 .num_experts = args.routing.num_experts,
                 .m = args.routing.num_rows(),
                 .n = args.y.cols,
                 .k = x.cols,
                 .is_aligned = fits_width(x) && fits_width(args.y) && fits_width(args.weight[0]) &&
                               is_aligned(args.bias.data)},
                device_limits(launch), launch.policy);
}

// The operand that the sm90 form reads from a copy in grouped order: the narrower of two scattered
// ones, or null.
const RoutedRows* copied_operand(const ExpertGradientArgs& args) {
  const bool both_scattered =
      args.x.layout == RowLayout::scattered && args.dy.layout == RowLayout::scattered;
  if (!both_scattered || !args.dweight) return nullptr;
  return args.x.rows.cols < args.dy.rows.cols ? &args.x : &args.dy;
}

std::int64_t gathered_bytes(const ExpertGradientArgs& args) {
  const RoutedRows* const copied = copied_operand(args);
  const ConstMatrix& rows = (copied == &args.x ? args.dy
                             : copied          ? args.x
                                               : operand_sides(args).gathered)
                                .rows;
  return rows.rows * rows.stride * size_of(rows.dtype);
}

ExpertGemmConfig config_of(const Launch& launch, const ExpertGradientArgs& args) {
  const ConstMatrix &dy = args.dy.rows, &x = args.x.rows;
  const std::int64_t num_rows = args.routing.num_rows();
  const RoutedRows* const copied = copied_operand(args);
  return choose({.gemm = ExpertGemm::weight_gradient,
                 .dtype = x.dtype,
                 .num_experts = args.routing.num_experts,
                 .m = dy.cols,
                 .n = x.cols,
                 .k = num_rows,
                 .is_aligned = fits_width(dy) && fits_width(x) && is_aligned(args.dweight),
                 .gathered_bytes = gathered_bytes(args),
                 .copied_bytes = copied ? num_rows * copied->rows.cols * size_of(x.dtype) : 0,
                 .beta = args.beta},
                device_limits(launch), launch.policy);
}

// dW *= beta for the experts without rows, which have no tile.
template <class G>
__global__ void __launch_bounds__(256)
    scale_empty_experts_kernel(const std::int32_t* expert_offsets, G* dweight, std::int64_t size,
                               float beta) {
  const int expert = blockIdx.y;
  if (expert_offsets[expert] != expert_offsets[expert + 1]) return;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < size;
       i += std::int64_t{gridDim.x} * blockDim.x) {
    G& target = dweight[expert * size + i];
    target = from_f32<G>(beta == 0 ? 0.0f : beta * to_f32(target));
  }
}

void scale_empty_experts(const Launch& launch, const ExpertGradientArgs& args) {
  const std::int64_t size = args.dy.rows.cols * args.x.rows.cols;
  if (args.beta == 1 || size == 0) return;
  constexpr std::int64_t kBlocks = 64;  // per expert
  const dim3 blocks(static_cast<unsigned>(std::min(ceil_div(size, 256), kBlocks)),
                    static_cast<unsigned>(args.routing.num_experts));
  dispatch_storage("expert_gradient", args.dtype, [&](auto gradient) {
    scale_empty_experts_kernel<<<blocks, 256, 0, stream_of(launch)>>>(
        args.routing.expert_offsets, static_cast<decltype(gradient)*>(args.dweight), size,
        static_cast<float>(args.beta));
  });
  check_launch("expert_gradient");
}

// Copies an operand to grouped order in the workspace, which then takes its place; dbias from the
// same pass if it is dy.
void group_operand(const Launch& launch, ExpertGradientArgs& args) {
  const bool is_x = copied_operand(args) == &args.x;
  RoutedRows& operand = is_x ? args.x : args.dy;
  const std::int64_t cols = operand.rows.cols;
  const Matrix grouped{args.workspace, operand.rows.dtype, args.routing.num_rows(), cols, cols};
  if (is_x || !args.dbias) {
    group(launch, {.routing = args.routing, .x = operand.rows, .grouped = grouped});
  } else {
    pass_over_rows(launch, "expert_gradient",
                   {.routing = args.routing,
                    .rows = operand,
                    .gated = grouped,
                    .sums = args.dbias,
                    .sums_dtype = args.dtype,
                    .beta = args.bias_beta});
    args.dbias = nullptr;
  }
  operand = {grouped, RowLayout::grouped};
  args.overlaps_preceding = false;
}

template <int N, class T>
__global__ void __launch_bounds__(256)
    group_rows_kernel(RowIndex index, const std::int32_t* ids, ConstMatrix x, const float* gates,
                      Matrix grouped) {
  const std::int64_t chunks = grouped.cols / N;
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= grouped.rows * chunks) return;
  const auto p = static_cast<std::int32_t>(i / chunks);
  const std::int64_t col = i % chunks * N;
  const float gate = gates ? gates[ids[p]] : 1.0f;
  float values[N];
  load(static_cast<const T*>(x.data) + index(p) * x.stride + col, values);
#pragma unroll
  for (float& value : values) value *= gate;
  store(static_cast<T*>(grouped.data) + p * grouped.stride + col, values);
}

}  // namespace

std::int64_t grouped_gemm_workspace_bytes(const Launch& launch, const GroupedGemmArgs& args) {
  return config_of(launch, args).workspace_bytes;
}

void grouped_gemm(const Launch& launch, const GroupedGemmArgs& args) {
  SMOE_INTERNAL_CHECK(
      args.x.rows.cols == (args.transpose_weight ? args.weight.rows : args.weight.cols) &&
          args.y.cols == (args.transpose_weight ? args.weight.cols : args.weight.rows) &&
          args.y.rows == args.routing.num_rows(),
      "grouped_gemm: x has ", args.x.rows.cols, " columns, weight [", args.weight.rows, ", ",
      args.weight.cols, "], y [", args.y.rows, ", ", args.y.cols, "]");
  SMOE_CHECK(args.weight.dtype == args.x.rows.dtype && args.y.dtype == args.x.rows.dtype &&
                 (!args.bias.data || args.bias.dtype == args.x.rows.dtype),
             "grouped_gemm: on a GPU x, weight, bias and y must have one dtype; got ",
             name_of(args.x.rows.dtype), ", ", name_of(args.weight.dtype), ", ",
             name_of(args.bias.data ? args.bias.dtype : args.x.rows.dtype), " and ",
             name_of(args.y.dtype));
  run_form(launch, args, config_of(launch, args), simt::grouped_gemm, sm80::grouped_gemm,
           sm90::grouped_gemm);
}

std::int64_t expert_gradient_workspace_bytes(const Launch& launch, const ExpertGradientArgs& args) {
  return config_of(launch, args).workspace_bytes;
}

void expert_gradient(const Launch& launch, const ExpertGradientArgs& given) {
  ExpertGradientArgs args = given;
  const DType dy = args.dy.rows.dtype, x = args.x.rows.dtype;
  SMOE_CHECK(dy == x, "expert_gradient: on a GPU dy and x must have one dtype; got ", name_of(dy),
             " and ", name_of(x));
  if (args.dweight) {
    const ExpertGemmConfig config = config_of(launch, args);
    if (config.workspace_bytes > 0) group_operand(launch, args);
    if (config.form != ExpertGemmForm::sm90) scale_empty_experts(launch, args);
    run_form(launch, args, config, simt::weight_gradient, sm80::weight_gradient,
             sm90::weight_gradient);
  }
  if (args.dbias)
    pass_over_rows(launch, "expert_gradient",
                   {.routing = args.routing,
                    .rows = args.dy,
                    .sums = args.dbias,
                    .sums_dtype = args.dtype,
                    .beta = args.bias_beta});
}

void group(const Launch& launch, const GroupArgs& args) {
  if (args.grouped.rows * args.grouped.cols == 0) return;
  const RowIndex index(args.routing, RowLayout::scattered, args.x.rows);
  dispatch_storage("group", args.x.dtype, [&](auto type) {
    dispatch_width(fits_width(args.x) && fits_width(args.grouped), [&](auto width) {
      const std::int64_t threads = args.grouped.rows * args.grouped.cols / width;
      group_rows_kernel<width, decltype(type)>
          <<<static_cast<unsigned>(ceil_div(threads, 256)), 256, 0, stream_of(launch)>>>(
              index, args.routing.sorted_scattered_ids, args.x,
              static_cast<const float*>(args.gates), args.grouped);
    });
  });
  check_launch("group");
}

}  // namespace smoe::kernels::cuda
