// The roofline plot of a profile.
#pragma once
#include <string>

#include "train/profile/profile.h"

namespace smoe {

/// A card with the FLOP/s of each kernel over its FLOP per byte, both logarithmic, below the
/// roofline.
std::string roofline_chart(const Profile& profile);

}  // namespace smoe
