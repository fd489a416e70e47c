// profile.html: a profile as one self-contained page.
#pragma once
#include <string>
#include <vector>

#include "train/profile/profile.h"
#include "train/profile/profile_json.h"

namespace smoe {

/// `changes` since an older profile, of which `old_path` is the name; both may be empty.
std::string profile_page(const Profile& profile, const std::vector<Change>& changes,
                         const std::string& old_path);

}  // namespace smoe
