// Recording: what happened in the steps of a profile's window, in milliseconds since it began.
#pragma once
#include <string>
#include <vector>

#include "core/base/instrument.h"

namespace smoe {

/// One kernel launch: a call of one function of kernels/, which may run several CUDA kernels.
struct LaunchSample {
  const char* name = "";
  Place place;
  Cost cost;
  int step = 0;                         ///< of the window, from 0
  double host_begin = 0, host_end = 0;  ///< of the call
  double begin = 0, end = 0;            ///< on the device; those of the call on the CPU
  double busy = 0;                      ///< time of its kernels
};

/// A kernel, copy or fill that CUPTI saw.
struct DeviceSample {
  std::string name;
  double begin = 0, end = 0;
  double busy = 0;  ///< of it, without the kernels of launches that began earlier
  int launch = -1;  ///< index of its LaunchSample; -1: none
  int stream = 0;
};

/// A scope on the host: a part of the step, or an op.
struct RangeSample {
  Place place;
  double begin = 0, end = 0;
};

/// A wait of the host for the device.
struct WaitSample {
  Place place;
  int step = 0;
  double begin = 0, end = 0;
};

/// A collective operation among the ranks.
struct CommunicationSample {
  const char* operation = "";
  Place place{};           ///< where it was started
  std::int64_t bytes = 0;  ///< of its tensors
  int step = 0;            ///< in which it was started
  double ready = 0, begin = 0, end = 0;
};

struct StepSample {
  double host_begin = 0, host_end = 0;
  double begin = 0, end = 0;  ///< on the device; those of the host on the CPU
};

struct Recording {
  std::vector<StepSample> steps;
  std::vector<LaunchSample> launches;  ///< in order of launch
  std::vector<DeviceSample> device;    ///< in order of time; empty without CUPTI
  std::vector<RangeSample> ranges;     ///< in order of their ends
  std::vector<WaitSample> waits;
  std::vector<CommunicationSample> communication;  ///< in order of their starts
  std::int64_t begin_ns = 0, end_ns = 0;           ///< of the window, steady clock
  double launch_ms = 0;  ///< taken off each launch: events show it where nothing is done
};

}  // namespace smoe
