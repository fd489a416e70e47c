#include "train/inject_faults.h"

#include <cstdlib>
#include <limits>

#include "core/device.h"
#include "core/system/fault.h"
#include "kernels/elementwise.h"

namespace smoe {

void inject_faults(const char* site, const Tensor& values) {
  const Fault fault = fault_point(site);
  if (!fault.is_nan && fault.error == 0) return;
  if (!is_floating(values.dtype()) || values.numel() == 0) return;
  const double value = fault.is_nan ? std::numeric_limits<double>::quiet_NaN() : 0.5;
  kernels::fill(launch(), {values.data(), values.dtype(), 1, value});
}

ValueObserver fault_observer() {
#ifdef SMOE_FAULTS
  if (std::getenv("SMOE_FAULT")) return inject_faults;
#endif
  return nullptr;
}

}  // namespace smoe
