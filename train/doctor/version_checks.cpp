// Versions, and the support table.
#include "train/doctor/version_checks.h"

#include <fmt/format.h>

#include <cstdint>

#include "core/base/dynamic_library.h"
#include "core/device.h"
#include "core/distributed/nccl_communicator.h"
#include "core/gpu.h"
#include "core/system/format.h"
#include "core/version.h"
#include "kernels/engines.h"
#include "kernels/threads.h"
#include "train/profile/device_tracer.h"
#include "train/profile/power.h"

namespace smoe {
namespace {

// A finding of what `describe` returns; of its failure a yellow one with `advice`.
template <class Describe>
Finding found(const std::string& subject, const std::string& advice, Describe&& describe) {
  try {
    return {.subject = subject, .result = describe()};
  } catch (const Error& error) {
    return {Health::yellow, subject, error.what(), advice};
  }
}

std::string cublas_version() {
  const DynamicLibrary library({"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"});
  std::size_t (*version)() = nullptr;
  library.load("cublasLtGetVersion", version);
  const std::size_t v = version();  // 130103, or 120804 of the previous numbering
  return fmt::format("{}.{}.{}", v / 10000, v / 100 % 100, v % 100);
}

std::string tracer_state() {
  start_device_tracer().reset();
  return "kernels can be timed one by one";
}

Finding device_finding(const Device& device) {
  if (device.type == DeviceType::cuda) {
    const gpu::MemoryInfo memory = gpu::memory_info(device.index);
    return {
        .subject = "device",
        .result = fmt::format("{}, {} of {} free", gpu::name(device.index),
                              format_bytes(memory.free_bytes), format_bytes(memory.total_bytes))};
  }
  const std::string reason = gpu::unavailable_reason(0);
  return {
      .health = Health::green,
      .subject = "device",
      .result = fmt::format("CPU, {} threads; no GPU: {}", kernels::cpu::num_threads(), reason)};
}

}  // namespace

Finding cpu_gemm_finding(const std::string& engine) {
  Finding finding{.subject = "CPU GEMMs", .result = engine};
  // OpenBLAS takes these where it does not know the CPU, as in some sandboxes; smoe itself needs a
  // CPU with AVX2.
  for (const char* old_cpu : {" Prescott", " Core2", " Nehalem", " Generic"})
    if (engine.ends_with(old_cpu)) {
      finding.health = Health::yellow;
      finding.advice =
          "OpenBLAS computes with kernels for an older CPU: set OPENBLAS_CORETYPE=Haswell, or "
          "SkylakeX where there is AVX-512";
    }
  return finding;
}

Findings check_versions() {
  const Device device = current_stream().device();
  Findings findings;
  findings.push_back({.subject = "smoe", .result = SMOE_VERSION});
  findings.push_back(device_finding(device));
  findings.push_back(cpu_gemm_finding(kernels::cpu_gemm_engine()));
  if (device.type != DeviceType::cuda) return findings;
  constexpr kernels::AttentionShape kShape{
      .batch = 1, .seq_len = 512, .num_heads = 8, .num_kv_heads = 2, .head_dim = 128};
  constexpr kernels::ExpertLayer kExperts{.num_experts = 8,
                                          .d_model = 1024,
                                          .d_expert = 3584,
                                          .activation = kernels::Activation::swiglu,
                                          .dtype = DType::bf16};
  findings.push_back(
      {.subject = "CUDA", .result = fmt::format("driver supports {}", gpu::driver_version())});
  findings.push_back(found("cuBLAS", "install the CUDA toolkit's libcublas", cublas_version));
  findings.push_back(
      found("expert GEMMs", "", [&] { return kernels::expert_engine(launch(), kExperts); }));
  findings.push_back(found("attention", "install cuDNN for faster attention", [&] {
    return kernels::attention_engine(launch(), kShape, DType::bf16);
  }));
  findings.push_back(found("NCCL", "needed for several GPUs: install libnccl2", nccl_version));
  findings.push_back(found("NVML", "part of the driver: power and clocks are not measured without",
                           nvml_versions));
  findings.push_back(found("CUPTI", "smoe profile falls back to timing events", tracer_state));
  return findings;
}

}  // namespace smoe
