// Front door of rotary_gemm on CUDA: the sm90 GEMM, or the parts one after the other.
#include "kernels/rotary_gemm.h"

#include "kernels/cuda/experts/forms.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rotary_table.h"

namespace smoe::kernels::cuda {

void gemm(const Launch& launch, const GemmArgs& args);
std::int64_t gemm_workspace_bytes(const Launch& launch, const GemmArgs& args);
void rotary(const Launch& launch, const RotaryArgs& args);

namespace {

bool is_fused(const Launch& launch, const RotaryGemmArgs& args) {
  const ConstMatrix &x = args.x, &weight = args.weight, &y = args.y();
  if (x.dtype != y.dtype || weight.dtype != y.dtype) return false;
  return fuses_rotary({.dtype = y.dtype,
                       .m = y.rows,
                       .n = y.cols,
                       .k = x.cols,
                       .seq_len = args.rotary.shape.seq_len,
                       .head_dim = args.rotary.shape.head_dim,
                       .is_aligned = fits_width(x) && fits_width(weight) && fits_width(y)},
                      device_limits(launch));
}

}  // namespace

void rotary_gemm(const Launch& launch, const RotaryGemmArgs& args) {
  if (!is_fused(launch, args)) {
    cuda::gemm(launch, args.gemm());
    return cuda::rotary(launch, args.rotary);
  }
  fill_rotary_table(launch, args.rotary);
  sm90::rotary_gemm(launch, args, accumulator_angles(args.rotary));
}

std::int64_t rotary_gemm_workspace_bytes(const Launch& launch, const RotaryGemmArgs& args) {
  return is_fused(launch, args) ? 0 : cuda::gemm_workspace_bytes(launch, args.gemm());
}

}  // namespace smoe::kernels::cuda
