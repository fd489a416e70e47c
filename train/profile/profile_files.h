// The files of a profile.
#pragma once
#include <string>
#include <vector>

#include "train/profile/profile_json.h"
#include "train/profile/profile_window.h"

namespace smoe {

/// Writes profile.json, profile.html and trace.json.gz to `folder`, which is created. `changes` are
/// those since the profile at `old_path`. Throws: SystemError.
void write_profile(const std::string& folder, const ProfiledRun& run,
                   const std::vector<Change>& changes = {}, const std::string& old_path = "");

}  // namespace smoe
