// The memory timeline as HTML: a part of a profile's page, and the page that a run which ran out of
// memory leaves.
#pragma once
#include <string>

#include "train/profile/memory_timeline.h"

namespace smoe {

/// Cards with the timeline by category and the owners of at least 1 % of the peak.
std::string memory_cards(const MemoryTimeline& timeline);

/// The page of a failed run; `message` says what failed.
std::string out_of_memory_page(const MemoryTimeline& timeline, const std::string& message);

/// Writes that page, of the last step before `error`, and returns a line that says where it is.
std::string write_out_of_memory_page(const OutOfMemory& error, Device device,
                                     const std::string& path);

}  // namespace smoe
