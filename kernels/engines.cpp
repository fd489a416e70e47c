#include "kernels/engines.h"

#include "core/base/check.h"
#include "kernels/cpu/blas.h"

namespace smoe::kernels {

namespace cuda {
#ifdef SMOE_HAS_CUDA
DeviceLimits device_limits(const Launch& launch);
std::string attention_engine(const Launch& launch, const AttentionShape& shape, DType dtype);
#else
DeviceLimits device_limits(const Launch&) {
  throw UsageError("grouped_gemm: this build of smoe has no CUDA backend");
}
std::string attention_engine(const Launch&, const AttentionShape&, DType) {
  throw UsageError("attention: this build of smoe has no CUDA backend");
}
#endif
}  // namespace cuda

cuda::ExpertGemmConfig choose_expert_gemm(const ExpertLayer& layer,
                                          const cuda::DeviceLimits& limits,
                                          const KernelPolicy& policy) {
  constexpr std::int64_t kAlignment = 8;  // elements in 16 bytes of bf16
  return cuda::choose(
      {.gemm = cuda::ExpertGemm::up,
       .dtype = layer.dtype,
       .num_experts = layer.num_experts,
       .m = 1,
       .n = preactivation_width(layer.activation, layer.d_expert),
       .k = layer.d_model,
       .is_aligned = layer.d_model % kAlignment == 0 && layer.d_expert % kAlignment == 0},
      limits, policy);
}

std::string expert_engine(const Launch& launch, const ExpertLayer& layer) {
  if (launch.device.type != DeviceType::cuda) return "OpenBLAS";
  const cuda::ExpertGemmConfig config =
      choose_expert_gemm(layer, cuda::device_limits(launch), launch.policy);
  const std::string name = cuda::engine_name(config.form);
  return *config.reason == '\0' ? name : concat(name, " because ", config.reason);
}

std::string cpu_gemm_engine() {
  return "OpenBLAS " + cpu::blas_core();
}

std::string attention_engine(const Launch& launch, const AttentionShape& shape, DType dtype) {
  return launch.device.type == DeviceType::cuda ? cuda::attention_engine(launch, shape, dtype)
                                                : "blocked CPU kernels";
}

}  // namespace smoe::kernels
