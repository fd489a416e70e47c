#include "train/processor.h"

#include "core/gpu.h"
#include "core/system/cores.h"
#include "kernels/engines.h"

namespace smoe {

std::string processor_of(Device device) {
  if (device.type == DeviceType::cuda) return gpu::name(device.index);
  return cpu_model() + ", " + kernels::cpu_gemm_engine();
}

}  // namespace smoe
