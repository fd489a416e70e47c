// Timing work on the current stream.
#pragma once
#include <algorithm>
#include <chrono>
#include <vector>

#include "core/device.h"

namespace smoe {

/// Milliseconds that `work` takes from an idle device to an idle device; on a GPU by its own clock.
template <class Work>
double time_ms(Work&& work) {
  const Stream& stream = current_stream();
  stream.synchronize();
  if (stream.device().type == DeviceType::cuda) {
    const Event begin(stream);
    work();
    return Event(stream).ms_since(begin);
  }
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
      .count();
}

/// Middle of the sorted values, which there must be.
inline double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

}  // namespace smoe
