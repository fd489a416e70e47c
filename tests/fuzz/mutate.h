// Inputs from seeds: input `index` of a target is the same on every machine for the same seeds.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "tests/fuzz/target.h"

namespace smoe::fuzz {

/// First the seeds as they are, then each piece of the dictionary repeated to 64 KiB, alone
/// and behind the first seed, then seeds changed in random places. `name` and `seed` choose the
/// random stream.
std::string make_input(const Target& target, std::string_view name, std::uint64_t seed,
                       std::uint64_t index);

}  // namespace smoe::fuzz
