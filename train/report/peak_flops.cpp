#include "train/report/peak_flops.h"

#include <string>

#include "core/gpu.h"

namespace smoe {
namespace {

// From NVIDIA's data sheets; the first name contained in the GPU's name applies.
struct Peak {
  const char* name;
  double bf16, f32;
};
constexpr Peak kPeaks[] = {
    {"H100 PCIe", 756e12, 51e12}, {"H100 NVL", 835e12, 60e12}, {"H100", 989e12, 67e12},
    {"H200 NVL", 835e12, 60e12},  {"H200", 989e12, 67e12},     {"GH200", 989e12, 67e12},
    {"A100", 312e12, 19.5e12},    {"A800", 312e12, 19.5e12},
};

}  // namespace

double peak_flops(Device device, DType dtype) {
  if (device.type != DeviceType::cuda) return 0;
  const std::string name = gpu::name(device.index);
  for (const Peak& peak : kPeaks)
    if (name.find(peak.name) != std::string::npos)
      return dtype == DType::bf16 ? peak.bf16 : dtype == DType::f32 ? peak.f32 : 0;
  return 0;
}

}  // namespace smoe
