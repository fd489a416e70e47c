// Standard input, read without waiting for long.
#pragma once
#include <cstddef>
#include <optional>

namespace smoe {

/// Reads up to `bytes` bytes of standard input. Returns how many, 0 at its end, and no value if
/// none came within 0.1 s. Throws: SystemError.
std::optional<std::size_t> read_standard_input(char* target, std::size_t bytes);

}  // namespace smoe
