// Builds without CUPTI.
#include "train/profile/device_tracer.h"

namespace smoe {

std::unique_ptr<DeviceTracer> start_device_tracer() {
  throw SystemError("CUPTI: this build of smoe has no CUPTI (cupti.h was missing)");
}

}  // namespace smoe
