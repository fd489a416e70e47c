// DeviceTracer: times each kernel, copy and fill on a GPU by CUPTI, which this program opens at run
// time. cupti/ implements it, none/ stands in for builds without CUPTI's headers.
#pragma once
#include <memory>
#include <vector>

#include "train/profile/recorder.h"

namespace smoe {

class DeviceTracer : public LaunchMarker {
 public:
  /// Ends tracing and returns what ran, in order of time, in milliseconds since `begin_ns` of the
  /// steady clock. Detaches CUPTI, so that later steps are not slower. Call once, when the device
  /// is idle. Throws: SystemError when CUPTI lost records.
  virtual std::vector<DeviceSample> finish(std::int64_t begin_ns) = 0;
};

/// Starts tracing all GPU work of this process. Throws: SystemError with the reason, such as
/// missing privileges or another tool that is attached.
std::unique_ptr<DeviceTracer> start_device_tracer();

}  // namespace smoe
