// Deterministic mutation: input `index` of a target depends only on the seeds.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "tests/fuzz/target.h"

namespace smoe::fuzz {

/// First the unmodified seeds, then each dictionary entry repeated to 64 KiB, by itself and after
/// the first seed, then randomly mutated seeds. `name` and `seed` select the random stream.
std::string make_input(const Target& target, std::string_view name, std::uint64_t seed,
                       std::uint64_t index);

}  // namespace smoe::fuzz
