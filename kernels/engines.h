// Which implementations the kernels of a model run on, in words: for logs and plans.
#pragma once
#include <string>

#include "core/base/launch.h"
#include "kernels/activation.h"
#include "kernels/attention_shape.h"
#include "kernels/cuda/experts/choose.h"

namespace smoe::kernels {

/// What decides the form of a layer's expert GEMMs.
struct ExpertLayer {
  std::int64_t num_experts;
  std::int64_t d_model;
  std::int64_t d_expert;
  Activation activation;
  DType dtype;
};

/// H100 and H200.
constexpr cuda::DeviceLimits kHopper{
    .compute_major = 9, .compute_minor = 0, .num_sms = 132, .shared_bytes = 232448};

/// The config of the up-projection on a GPU with these limits. The layer's other expert GEMMs run
/// in the same form. Needs no GPU.
cuda::ExpertGemmConfig choose_expert_gemm(const ExpertLayer& layer,
                                          const cuda::DeviceLimits& limits,
                                          const KernelPolicy& policy = {});

/// What expert GEMMs run on, and why not on something faster: "wgmma", "OpenBLAS", "mma.sync
/// because there are more than 512 experts".
std::string expert_engine(const Launch& launch, const ExpertLayer& layer);

/// What GEMMs run on on this CPU: OpenBLAS and the core whose kernels it chose when the program
/// started, "OpenBLAS SkylakeX".
std::string cpu_gemm_engine();

/// What attention over a packed projection runs on: "cuDNN 9.19, deterministic".
std::string attention_engine(const Launch& launch, const AttentionShape& shape, DType dtype);

}  // namespace smoe::kernels
