#include "train/profile/power.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "core/base/dynamic_library.h"
#include "core/gpu.h"

namespace smoe {
namespace {

using Clock = std::chrono::steady_clock;

// NVML's functions as its documentation declares them; a build needs no header of it.
using NvmlDevice = void*;
constexpr int kSuccess = 0, kSmClock = 1, kGpuTemperature = 0;
constexpr unsigned kVersionLength = 96;

struct Nvml {
  int (*init)();
  int (*by_bus_id)(const char*, NvmlDevice*);
  int (*power_usage)(NvmlDevice, unsigned*);                 // mW
  int (*power_limit)(NvmlDevice, unsigned*);                 // mW
  int (*energy)(NvmlDevice, unsigned long long*);            // mJ since the driver was loaded
  int (*clock)(NvmlDevice, int, unsigned*);                  // MHz
  int (*max_clock)(NvmlDevice, int, unsigned*);              // MHz
  int (*slowdown_reasons)(NvmlDevice, unsigned long long*);  // bits
  int (*temperature)(NvmlDevice, int, unsigned*);            // Celsius
  int (*version)(char*, unsigned);
  int (*driver_version)(char*, unsigned);
  const char* (*error_string)(int);

  void check(int result, const char* call) const {
    if (result != kSuccess)
      throw SystemError(concat("NVML: ", call, " failed: ", error_string(result)));
  }
};

const Nvml& nvml() {
  static const Nvml loaded = [] {
    const DynamicLibrary library({"libnvidia-ml.so.1"});
    Nvml nvml;
    library.load("nvmlInit_v2", nvml.init);
    library.load("nvmlDeviceGetHandleByPciBusId_v2", nvml.by_bus_id);
    library.load("nvmlDeviceGetPowerUsage", nvml.power_usage);
    library.load("nvmlDeviceGetEnforcedPowerLimit", nvml.power_limit);
    library.load("nvmlDeviceGetTotalEnergyConsumption", nvml.energy);
    library.load("nvmlDeviceGetClockInfo", nvml.clock);
    library.load("nvmlDeviceGetMaxClockInfo", nvml.max_clock);
    library.load("nvmlDeviceGetCurrentClocksThrottleReasons", nvml.slowdown_reasons);
    library.load("nvmlDeviceGetTemperature", nvml.temperature);
    library.load("nvmlSystemGetNVMLVersion", nvml.version);
    library.load("nvmlSystemGetDriverVersion", nvml.driver_version);
    library.load("nvmlErrorString", nvml.error_string);
    nvml.check(nvml.init(), "nvmlInit");
    return nvml;
  }();
  return loaded;
}

NvmlDevice handle_of(Device device) {
  const std::string identity = gpu::identity(device.index);
  const std::string bus_id = identity.substr(identity.find(" at ") + 4);
  NvmlDevice handle = nullptr;
  nvml().check(nvml().by_bus_id(bus_id.c_str(), &handle), "nvmlDeviceGetHandleByPciBusId");
  return handle;
}

// Bits of nvmlDeviceGetCurrentClocksThrottleReasons that say that something holds the clock down.
std::string reasons_of(unsigned long long bits) {
  constexpr struct {
    unsigned long long bit;
    const char* name;
  } kReasons[] = {{0x4, "power limit"},
                  {0x8, "hardware slowdown"},
                  {0x20, "temperature"},
                  {0x40, "temperature (hardware)"},
                  {0x80, "power brake"},
                  {0x10, "synchronized boost"},
                  {0x2, "fixed application clocks"}};
  std::string text;
  for (const auto& [bit, name] : kReasons)
    if (bits & bit) text += concat(text.empty() ? "" : ", ", name);
  return text;
}

}  // namespace

class PowerMeter::Sampler {
 public:
  explicit Sampler(Device device)
      : device_(handle_of(device)), start_(Clock::now()), start_mj_(energy()) {
    thread_ = std::thread([this] { run(); });
  }

  PowerReport stop() {
    is_done_ = true;
    thread_.join();
    PowerReport report;
    report.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    report.joules = static_cast<double>(energy() - start_mj_) / 1e3;
    report.max_watts = max_mw_ / 1e3;
    report.mean_watts = num_samples_ == 0 ? 0 : sum_mw_ / num_samples_ / 1e3;
    report.mean_mhz = num_samples_ == 0 ? 0 : sum_mhz_ / num_samples_;
    report.min_mhz = num_samples_ == 0 ? 0 : min_mhz_;
    report.max_mhz = read([&](unsigned* v) { return nvml().max_clock(device_, kSmClock, v); });
    report.limit_watts = read([&](unsigned* v) { return nvml().power_limit(device_, v); }) / 1e3;
    report.celsius =
        read([&](unsigned* v) { return nvml().temperature(device_, kGpuTemperature, v); });
    report.slowed_by = reasons_of(reasons_);
    return report;
  }

 private:
  unsigned long long energy() const {
    unsigned long long millijoules = 0;
    nvml().energy(device_, &millijoules);
    return millijoules;
  }

  // 0 where NVML cannot say.
  template <class Get>
  static double read(Get&& get) {
    unsigned value = 0;
    return get(&value) == kSuccess ? value : 0;
  }

  void run() {
    while (!is_done_) {
      const double mw = read([&](unsigned* v) { return nvml().power_usage(device_, v); });
      const double mhz = read([&](unsigned* v) { return nvml().clock(device_, kSmClock, v); });
      unsigned long long reasons = 0;
      nvml().slowdown_reasons(device_, &reasons);
      reasons_ |= reasons;
      sum_mw_ += mw;
      sum_mhz_ += mhz;
      max_mw_ = std::max(max_mw_, mw);
      min_mhz_ = std::min(min_mhz_, mhz);
      ++num_samples_;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }

  NvmlDevice device_;
  Clock::time_point start_;
  unsigned long long start_mj_;
  std::atomic<bool> is_done_{false};
  double sum_mw_ = 0, max_mw_ = 0, sum_mhz_ = 0, min_mhz_ = 1e9;
  int num_samples_ = 0;
  unsigned long long reasons_ = 0;
  std::thread thread_;
};

PowerMeter::PowerMeter(Device device) {
  if (device.type != DeviceType::cuda) {
    unavailable_ = "not measured on a CPU";
    return;
  }
  try {
    sampler_ = std::make_unique<Sampler>(device);
  } catch (const SystemError& error) {
    unavailable_ = error.what();
  }
}

PowerMeter::~PowerMeter() {
  if (sampler_) sampler_->stop();
}

PowerReport PowerMeter::stop() {
  if (!sampler_) return {.unavailable = unavailable_};
  PowerReport report = sampler_->stop();
  sampler_.reset();
  return report;
}

std::string nvml_versions() {
  char own[kVersionLength] = {}, driver[kVersionLength] = {};
  nvml().check(nvml().version(own, kVersionLength), "nvmlSystemGetNVMLVersion");
  nvml().check(nvml().driver_version(driver, kVersionLength), "nvmlSystemGetDriverVersion");
  return concat(own, " with driver ", driver);
}

}  // namespace smoe
