#include "train/profile/device_times.h"

#include <algorithm>
#include <limits>

namespace smoe {

void add_device_times(std::vector<DeviceSample> device, Recording& recording) {
  std::vector<LaunchSample>& launches = recording.launches;
  for (LaunchSample& launch : launches) launch.begin = -1;
  double latest_end = -std::numeric_limits<double>::infinity();
  for (DeviceSample& sample : device) {
    sample.busy = sample.end - sample.begin;
    if (sample.launch < 0 || sample.launch >= static_cast<int>(launches.size())) continue;
    sample.busy = std::max(0.0, sample.end - std::max(sample.begin, latest_end));
    latest_end = std::max(latest_end, sample.end);
    LaunchSample& launch = launches[sample.launch];
    if (launch.begin < 0) launch.begin = sample.begin;
    launch.end = std::max(launch.end, sample.end);
    launch.busy += sample.busy;
  }
  for (std::size_t i = 0; i < launches.size(); ++i)
    if (launches[i].begin < 0)  // it launched nothing
      launches[i].begin = launches[i].end = i > 0 ? launches[i - 1].end : launches[i].host_begin;
  recording.device = std::move(device);
}

}  // namespace smoe
