// Suggestions for unknown keys.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "train/config/schema.h"

namespace smoe {

/// Levenshtein distance: insertions, deletions and substitutions that turn `a` into `b`.
std::size_t edit_distance(std::string_view a, std::string_view b);

/// Whether `path` is a section: some key lies in it.
bool is_section(const std::vector<Field>& fields, std::string_view path);

/// "; did you mean optim.lr?" with the key or section closest to `unknown` in spelling, including
/// the same name in another section; or how to list all keys if none is close.
std::string hint_for(const std::vector<Field>& fields, std::string_view unknown);

}  // namespace smoe
