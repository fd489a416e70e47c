// profile.json: a profile for programs, and for comparison with a later one.
#pragma once
#include <string>
#include <vector>

#include "train/profile/profile.h"

namespace smoe {

std::string profile_json(const Profile& profile);

/// A figure that differs between two profiles by more than noise.
struct Change {
  std::string what;
  double before = 0, after = 0;
  std::string unit;  ///< "ms" or "bytes"
};

/// Changes of more than 3 %, about what clocks under a power limit vary by, and of 0.2 % of the
/// step since the profile.json `old_json`, of which messages name `path`, largest first. Throws:
/// UsageError when it is not a profile.
std::vector<Change> changes_since(const std::string& old_json, const std::string& path,
                                  const Profile& profile);

}  // namespace smoe
