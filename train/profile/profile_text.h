// A profile for the console.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "train/profile/profile.h"
#include "train/profile/profile_json.h"

namespace smoe {

/// How kernels were timed on a GPU: what events show for a launch, or how much kernels overlap.
/// Empty: there is nothing to say.
std::string timing_sentence(const Profile& profile);

/// The parts that a step's time adds up from, in milliseconds.
std::vector<std::pair<std::string, double>> parts_of_step(const Profile& profile);

/// "expert_up in moe_mlp (forward)".
std::string name_of(const OpGroup& op);

/// "12.3 ms": three digits.
std::string short_ms(double ms);

std::string profile_text(const Profile& profile, const std::vector<Change>& changes);

}  // namespace smoe
