// PowerMeter: power, energy and clocks of a GPU over a window, by NVML, which is opened at run
// time.
#pragma once
#include <memory>
#include <string>

#include "core/device.h"

namespace smoe {

struct PowerReport {
  std::string unavailable{};  ///< why there is nothing below; empty if there is
  double seconds = 0;
  double joules = 0;
  double mean_watts = 0, max_watts = 0, limit_watts = 0;
  double mean_mhz = 0, min_mhz = 0, max_mhz = 0;  ///< SM clock; the last: the most it could be
  double celsius = 0;                             ///< at the end
  std::string slowed_by{};                        ///< "power limit, temperature"; empty: nothing
};

class PowerMeter {
 public:
  /// Starts to measure, with a thread that asks every 10 ms.
  explicit PowerMeter(Device device);
  ~PowerMeter();
  PowerMeter(const PowerMeter&) = delete;
  PowerMeter& operator=(const PowerMeter&) = delete;

  /// Ends the measurement. Call once.
  PowerReport stop();

 private:
  class Sampler;
  std::unique_ptr<Sampler> sampler_;
  std::string unavailable_;
};

/// NVML's version and the driver's, "13.580.65.06 with driver 580.65.06". Throws: SystemError.
std::string nvml_versions();

}  // namespace smoe
