// The trace of a profile, in the JSON that Perfetto and chrome://tracing open.
#pragma once
#include <string>

#include "train/profile/profile.h"

namespace smoe {

/// Host ranges and waits, kernels of the device, and memory by category, as JSON. Events of a track
/// are in order of time and nest.
std::string trace_json(const Recording& recording, const MemoryTimeline& memory,
                       const std::string& device);

/// `text` in gzip's format.
std::string gzipped(const std::string& text);

}  // namespace smoe
